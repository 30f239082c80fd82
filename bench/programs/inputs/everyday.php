<?php // Everyday PHP over extensions that are loaded as plugins: intl, dom, mbstring, PDO, zlib.
$n = (int)$argv[1];
mt_srand(7);
$words = [];
for ($i = 0; $i < $n; $i++) $words[] = base_convert((string)mt_rand(), 10, 36);
sort($words);
$count = array_count_values(array_map(fn($w) => $w[0], $words));
ksort($count);
echo json_encode($count), "\n";
$document = new DOMDocument();
$root = $document->appendChild($document->createElement("list"));
foreach (array_slice($words, 0, $n / 10) as $word)
    $root->appendChild($document->createElement("item"))->setAttribute("word", $word);
$found = (new DOMXPath($document))->query("//item[contains(@word, 'a')]");
echo $found->length, " ", md5($document->saveXML()), "\n";
$db = new PDO("sqlite::memory:");
$db->exec("create table t(word text, size int)");
$insert = $db->prepare("insert into t values(?, ?)");
$db->beginTransaction();
foreach ($words as $word) $insert->execute([$word, strlen($word)]);
$db->commit();
foreach ($db->query("select size, count(*) c from t group by size order by size") as $row)
    echo $row["size"], ":", $row["c"], " ";
echo "\n", md5(gzcompress(implode(",", $words), 9)), "\n";
$format = new NumberFormatter("de_DE", NumberFormatter::DECIMAL);
$collator = new Collator("sv_SE");
$names = ["ö", "z", "a", "å", "ä"];
$collator->sort($names);
echo $format->format(1234567.891), " ", implode(",", $names), " ", mb_strtoupper("straße"), "\n";
echo Transliterator::create("Any-Latin")->transliterate("Привет, мир"), "\n";
echo preg_replace_callback('/\d+/u', fn($m) => $m[0] * 2, "a1 b22 c333"), "\n";
