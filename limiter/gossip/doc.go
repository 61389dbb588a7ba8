// Package gossip lets the limiters of several nodes keep one limit: it tells each what the others let pass, and
// carries records, such as revocations, that all are to have.
//
// A Node is the protocol, as a state machine without sockets, goroutines or a clock. A Gossip is a Node with all of
// that, and finds its peers by hashicorp/memberlist (SWIM), which shares its port: one UDP and one TCP socket.
// Counters never ride on memberlist, which promises nothing of delivery or time.
//
// # What it promises to a Ledger
//
// What a ledger hands out as deltas is merged by each peer that is alive, once: not lost, not twice, whatever the
// network loses, repeats or reorders. It is acknowledged to the ledger, once, when all of them have it; or when
// those that have not are silent; or, at worst, when there is no more room to keep it (500 ms with a full log of
// 1024 frames). And an acknowledgement never overtakes deltas: when A learns that B has merged what A let pass,
// A has merged what B let pass until then. On this rests that nodes never spend one token twice; see type acks.
//
// # Frames
//
// Every interval, and at once (but not twice within a millisecond) when the ledger is pressing, a node drains its
// ledger into frames and sends them to all peers. Frames are numbered; a frame is sealed once, and what goes to each
// peer, or is sent again, are the same bytes. A receiver keeps a window of 2048 numbers for each peer. Direct
// packets go to one peer, at least every interval (within 20 to 100 ms): what was merged, as the number up to which
// nothing is missing and a bitmap of what came after it, a time stamp to measure the round trip by, and what
// follows below. What is missing after a round trip, and the interval in which it might have been acknowledged, is
// sent again. Where more than 3 % are lost, everything goes out twice.
//
// Numbers are big-endian, or varints (encoding/binary's) where no size is given:
//
//	packet = kind:1 key:1 life:8 number:8 stamp:4 sealed(section*) tag:16   at most 1200 bytes
//	section = deltas:1 rule:8 window count (key:8 units demand)*             10 bytes a delta, mostly
//	        | own:1 n per rule:8 window count (key:8 units demand)*
//	        | record:1 length bytes
//	        | urgent:1                                                       answer at once
//	        | ack:1 after:8 base:8 length:1 bitmap
//	        | echo:1 stamp:4 held
//	        | floor:1 number:8                                               nothing up to it can be repaired
//	        | ask:1 cursor:8
//	        | debts:1 cursor:8 next:8                                        the deltas that follow are debts
//	        | bye:1
//	        | through:1 groups:1                                             pass on what follows
//	        | passed:1 id:4 number stamp:4 size section*                     a frame, of whom id is short for
//	        | carry:1 id:4 urgent:1 after base length:1 bitmap               an acknowledgement, for whom id is short for
//	        | carried:1 id:4 urgent:1 after base length:1 bitmap             the same, from whom id is short for
//	        | heard:1 n:1 (id:4)*                                            these are there
//	        | answer:1                                                       answer directly
//	hello  = kind:1 key:1 nonce:24 sealed(life:16 challenge:8 echo:8 sees:8 frames:8 direct:8 name) tag:16
//
// The first four are in frames, or (deltas with debts) in direct packets; the others in direct packets alone. A
// packet is decoded as a whole before anything is done. The age of a frame is how much longer it took than the
// fastest of late, and half the shortest round trip: no clock needs to be right.
//
// # Lives and silence
//
// Each run of a node is a life, with a random name and so its own keys. A life's packets count once the peer has sent
// back, in a hello, a random number that it was sent: what was overheard in an earlier life, or before a window
// begins, revives nobody. A peer of which nothing was heard for five beats (more where the loss is high) is silent:
// its acknowledgements are not waited for. If it returns within three seconds it gets what it missed. After that
// the gap is skipped, and both sides ask the other for its buckets in debt, a page at a time; so does who meets peers
// for the first time, of the first two: one that has just begun, and fleets that began apart; and a node whose ledger
// doubts what it sees, for it gets too little of a bucket. After five minutes, or when it says so, a peer is gone.
//
// # Secrets
//
// Every packet is encrypted and authenticated, with keys derived by HKDF (RFC 5869) from the secret: AES-256-GCM for
// frames (a key for each life) and direct packets (for each pair of lives), numbers being the nonces;
// XChaCha20-Poly1305 with random nonces for hellos. During a rotation there are two secrets: what either opens is
// taken, the first seals. What no secret opens is counted, costs about 0.3 microseconds and no memory, and is not
// answered. A hello is answered to where membership knows the member to be, at most every 5 ms.
//
// Whoever has the secret is trusted, and so is what he says that others have said: he can make the others refuse requests, within the caps of the limiter, though
// not admit more than they would alone.
//
// # How many
//
// Up to 32 nodes are a full mesh: everybody sends to everybody. A node sends per second, at an interval of 50 ms, in kB
// with UDP and IP:
//
//	keys under pressure   2 nodes    3     8     32
//	                  0      1.8   3.7    13     57
//	                 10      5.5    11    38    170
//	                100       23    47   164    728
//	              1,000      216   432  1512   2500 (the budget)
//
// What does not fit into the budget (2.5 MB/s unless configured) waits, most pressing first, and acknowledgements with it.
//
// # Relays
//
// With few keys under pressure it is packets that a mesh of more costs, not deltas: of the 90 bytes of a frame with one
// delta 66 are heads and seals, and beside each frame goes an acknowledgement of 90 bytes, both to each other node. So
// more than 32 nodes pass on: they fall into about as many groups as each has members, by a hash of their names;
// what a node has to tell all, it tells those of its own group, and one of each other group, who passes it on to the rest of
// his, together with what others tell him within a quarter of an interval. Acknowledgements go the same way, to one of
// the group of whom they are for. So a node talks with some 3*sqrt(N) others: its group, its relays, and those whose relay
// it is; with the rest directly once a second, and to repair. In kB and in packets a second from each node:
//
//	keys under pressure   32: mesh    64: mesh       relays   128: mesh        relays
//	                  0    57  620   116 1260      47   464   234 2540      75    721
//	                  1   113 1261   231 2572     148   848   465 5168     277   1385
//	                 10   169 1261   345 2572     261   848   693 5168     504   1388
//	                100   727 1261  1479 2572    1430  1438   (the budget)   (the budget)
//
// No node sends more than 1.4 times as much. With a hundred keys that all nodes use, it is deltas that fill the packets: each
// is 10 bytes, and has to reach everybody. Relays do not change that, and the budget holds there as it does in a mesh. A
// relay could add up what several tell of one key. It does not, for three reasons. A sum cannot be taken apart: who got
// part of it another way, when a relay died, would have to take some twice or never. Who told what is needed besides: for
// the shares of a bucket, and for what a peer that falls silent is held to have used. And of the ten nodes that one relay
// serves three speak in a quarter of an interval; only for waiting a whole one there would be ten to be added up.
//
// Nothing else changes, and this is why it is safe: frames keep the numbers that their sender gave them, each receiver
// has a window of numbers for each sender, and an acknowledgement says what its sender has merged, and after which
// of his own frames it counts. So nobody has to agree with anybody on who relays for whom, on groups, or on who is alive: what
// comes by two ways is taken once, and what comes by none is not acknowledged, and is sent again directly. That is all that
// happens when a relay dies, too: who finds it silent chooses another, by rendezvous hashing. A fleet that grows beyond
// 32 nodes, or shrinks to 30, changes over node by node. Where more than a fifth of all packets are lost, what is passed on
// would be late too often, and each sends directly, as in a mesh.
//
// The price is time: a delta takes a quarter of an interval and a delay longer to arrive, an acknowledgement as long, and
// that a node is gone that one does not talk with is noticed after ten beats, not five. In the tests, with real
// limiters, fleets that relay let no more pass than one bucket, as do those that do not: in steady load and floods, with
// up to 30 % lost, while relays are killed, cut off and come back, and while a fleet grows from 31 to 40 nodes and shrinks to 30.
//
// At most 128 nodes find each other: those beyond are refused, and that is reported.
package gossip
