# Everyday Ruby: strings, hashes, regular expressions, threads, a fork, compaction of the heap.
require "digest"
require "json"
require "set"
require "zlib"
count = ARGV[0].to_i
random = Random.new(7)
words = Array.new(count) { random.rand(2**40).to_s(36) }
by_letter = words.group_by { |word| word[0] }.transform_values(&:size)
puts JSON.generate(by_letter.sort.to_h)
puts words.sort_by { |word| [word.size, word] }.first(5).join(" ")
puts words.map { |word| word.gsub(/[0-9]/) { |digit| (digit.to_i + 1).to_s } }.to_set.size
puts Digest::SHA256.hexdigest(Zlib::Deflate.deflate(words.join(","), 9))
sums = Array.new(4) { |at| Thread.new { words.each_slice(4).sum { |part| part[at].to_s.hash.abs % 2 >= 0 ? 1 : 0 } } }
puts sums.map(&:value).inspect
GC.start
GC.compact if GC.respond_to?(:compact)
reader, writer = IO.pipe
child = fork { writer.puts(words.map(&:size).sum); exit!(3) }
writer.close
Process.wait(child)
puts reader.read, $?.exitstatus
text = +""
count.times { |i| text << "line #{i}\n" }
puts text.lines.size, text.size
