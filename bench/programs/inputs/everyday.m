% Everyday Octave: matrices, cells, strings, sparse, cellfun. The argument stands in the environment.
count = str2double(getenv("COUNT"));
rand("seed", 7);
a = reshape(mod((1:count * count) * 7919, 1009), count, count);
b = a' * a;
printf("%.6g %.6g\n", trace(b), norm(b, "fro"));
s = sparse(mod(a, 13) == 0);
printf("%d %d\n", nnz(s), nnz(s * s'));
words = arrayfun(@(n) dec2base(n, 36), a(1:count * 10), "UniformOutput", false);
[kinds, ~, which] = unique(words);
printf("%d %d\n", numel(kinds), max(accumarray(which(:), 1)));
text = strjoin(words, ",");
printf("%d %s\n", numel(strsplit(regexprep(text, "[0-9]+", "#"), ",")), hash("md5", text));
x = linspace(0, 1, count * 50);
printf("%.10g\n", trapz(x, exp(-x .^ 2)));
q = {};
for i = 1:count * 5
  q{end + 1} = ones(1, mod(i * 31, 500));
endfor
printf("%d\n", sum(cellfun(@numel, q)));
