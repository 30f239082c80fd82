# everyday.pl: what perl scripts do all day. Says what it found; the same on every malloc.
use strict;
use warnings;
use threads;
use threads::shared;

my $rounds = shift // 1000;
my $dice = 1;
sub dice { $dice = ($dice * 1103515245 + 12345) % 2147483648; return $dice >> 8 }

my (%words, @rows, %tree);
for my $n (1 .. $rounds) {
    my $line = sprintf "%05d user%d\@host%d.example.org %s", $n, dice() % 97, dice() % 31, "x" x (dice() % 60);
    push @rows, $line;
    $words{$_}++ for split /[\s@.]+/, $line;
    $tree{ dice() % 50 }{ dice() % 50 }{$n} = [ $line, length $line ];
    if (@rows > 5000) { splice @rows, 0, 2500 }
    delete $tree{ dice() % 50 } if $n % 100 == 0;
}
my @most = sort { $words{$b} <=> $words{$a} || $a cmp $b } keys %words;
print "$_ $words{$_}\n" for @most[ 0 .. 15 ];
my $nodes = 0;
for my $one (values %tree) { $nodes += keys %$_ for values %$one }
print scalar(@rows), " $nodes\n";

my $text = join "\n", @rows;
my %seen;
while ($text =~ /user(\d+)\@(host\d+)(?{ $nodes++ })/g) { $seen{$2} += $1 }
print map { "$_ $seen{$_}\n" } sort keys %seen;
(my $turned = $text) =~ s/(\w+)@(\w+)/$2 at $1/g;
print length($turned), " ", ($turned =~ tr/a-e//), " $nodes\n";
print unpack("%32C*", join "", map { reverse } sort { substr($b, 10) cmp substr($a, 10) } @rows), "\n";

my @closures = map { my $k = $_; sub { $k += shift; "$k" x 3 } } 1 .. 2000;
my $sum = 0;
for my $turn (1 .. 5) { $sum += length $_->($turn) for @closures }
print "$sum\n";

my $long = "";
$long .= chr(32 + $_ % 90) x ($_ % 300) for 1 .. $rounds / 50;
my $wide = join "", map { chr(0x100 + $_ % 5000) } 1 .. $rounds;
print length($long), " ", length($wide), " ", length(lc uc $wide), "\n";

local $| = 1;
my @out = map {
    my $id = $_;
    open(my $child, "-|") // die "fork: $!" or do {
        my %mine = map { $_ => [ 1 .. $_ % 20 ] } 1 .. 500;
        print "child $id ", scalar(keys %mine), "\n";
        exit 0;
    };
    my $said = join "", <$child>;
    close $child or die "child $id: $?";
    $said
} 1 .. 5;
print @out;

my $shared : shared = 0;
my @crew = map {
    my $id = $_;
    threads->create(sub {
        my %mine = map { $_ => "v" x ($_ % 50) } 1 .. 1000;
        { lock $shared; $shared += length join "", values %mine }
        return $id * keys %mine;
    })
} 1 .. 4;
print join(" ", map { $_->join } @crew), " $shared\n";

my $caught = 0;
for my $n (1 .. 1000) {
    eval { die { code => $n, text => "t" x $n } if $n % 3; 1 } or $caught += $@->{code};
}
print "$caught\n";
print sprintf("%s %.6f %e %x", "end", 1 / 3, 2**70, 255), "\n";
