%% Everyday Erlang: processes, messages, binaries, ETS; +Mea min has the VM take all by malloc.
-module(everyday).
-export([main/1]).

main([Text]) ->
    Count = list_to_integer(Text),
    Table = ets:new(words, [ordered_set, public]),
    Self = self(),
    Workers = [spawn(fun() -> work(Self, Table, N, Count) end) || N <- lists:seq(1, 20)],
    Sums = lists:sort([receive {done, W, S} -> S end || W <- Workers]),
    io:format("~p~n~p~n", [ets:info(Table, size), erlang:phash2(Sums)]),
    Binary = iolist_to_binary([integer_to_binary(K) || {K, _} <- ets:tab2list(Table)]),
    io:format("~p ~p~n", [byte_size(Binary), erlang:md5(zlib:compress(Binary))]).

work(Parent, Table, N, Count) ->
    Sum = lists:foldl(fun(I, S) ->
        Key = (I * 7919 + N * 104729) rem 1000003,
        ets:insert(Table, {Key, binary:copy(<<Key:32>>, 1 + I rem 100)}),
        S + byte_size(binary:copy(<<I:32>>, 20 + I rem 50))
    end, 0, lists:seq(1, Count)),
    Parent ! {done, self(), Sum}.
