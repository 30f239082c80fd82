// Everyday Java: collections, streams, threads, direct buffers, zlib: what the VM takes by malloc.
import java.nio.ByteBuffer;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import java.util.zip.*;

public class Everyday {
    public static void main(String[] arguments) throws Exception {
        int count = Integer.parseInt(arguments[0]);
        Random random = new Random(7);
        List<String> words = new ArrayList<>();
        for (int i = 0; i < count; i++) words.add(Long.toString(random.nextLong() & 0xffffffffffL, 36));
        TreeMap<Character, Long> letters = words.stream().collect(
            Collectors.groupingBy(word -> word.charAt(0), TreeMap::new, Collectors.counting()));
        System.out.println(letters.toString());
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> sums = new ArrayList<>();
        for (int part = 0; part < 16; part++) {
            int from = part;
            sums.add(pool.submit(() -> {
                CRC32 sum = new CRC32();
                for (int round = 0; round < 20; round++) {
                    ByteBuffer direct = ByteBuffer.allocateDirect(100_000 + 1000 * from);
                    for (int i = from; i < words.size(); i += 16) if (direct.remaining() > 20) direct.put(words.get(i).getBytes());
                    direct.flip();
                    sum.update(direct);
                    Deflater deflater = new Deflater(9);
                    deflater.setInput(String.join(",", words.subList(0, Math.min(500, words.size()))).getBytes());
                    deflater.finish();
                    byte[] out = new byte[100_000];
                    sum.update(out, 0, deflater.deflate(out));
                    deflater.end();
                }
                return sum.getValue();
            }));
        }
        for (Future<Long> sum : sums) System.out.println(sum.get());
        pool.shutdown();
        Thread[] short_lived = new Thread[200];
        for (int i = 0; i < short_lived.length; i++) (short_lived[i] = new Thread(() -> new ArrayList<>(words).sort(null))).start();
        for (Thread thread : short_lived) thread.join();
        System.out.println("done");
    }
}
