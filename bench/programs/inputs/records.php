<?php
// Arrays of records and many short strings: built, indexed, joined, sorted, encoded and dropped, as
// pages do. No plugin of PHP's is needed. Says what it found; the same on every malloc.
$count = (int) $argv[1];
$dice = 1;
function dice() {
    global $dice;
    $dice = ($dice * 1103515245 + 12345) % 2147483648;
    return $dice >> 8;
}
$kept = [];
$digest = hash_init('sha256');
for ($page = 0; $page < 12; $page++) {
    $rows = [];
    for ($n = 0; $n < $count; $n++) {
        $name = sprintf('user%d@host%d.example.org', dice() % 9973, dice() % 31);
        $rows[] = ['id' => $n, 'name' => $name, 'tags' => explode('.', $name), 'body' => str_repeat('x', dice() % 300)];
    }
    usort($rows, fn($a, $b) => strcmp($a['name'], $b['name']) ?: $a['id'] <=> $b['id']);
    $index = [];
    foreach ($rows as $row) {
        $index[$row['tags'][0]][] = $row;
    }
    $text = json_encode(array_slice($index, 0, 2000));
    $again = json_decode($text, true);
    hash_update($digest, $text . count($again));
    foreach (array_keys($index) as $at => $key) {
        if ($at % 7 == $page % 7) {
            $kept["$key#$page"] = $index[$key];
        }
    }
    if (count($kept) > 3000) {
        $kept = array_slice($kept, 1500);
    }
    $html = '';
    foreach ($kept as $key => $of) {
        $html .= "<tr><td>$key</td><td>" . count($of) . "</td></tr>\n";
    }
    hash_update($digest, preg_replace('/user(\d+)/', 'u$1', $html));
    echo $page, ' ', strlen($text), ' ', count($index), ' ', count($kept), ' ', strlen($html), "\n";
}
echo hash_final($digest), "\n";
