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
//	hello  = kind:1 key:1 nonce:24 sealed(life:16 challenge:8 echo:8 sees:8 frames:8 direct:8 name) tag:16
//
// The first five are in frames, or (deltas with debts) in direct packets; the others in direct packets alone. A
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
// for the first time, of the first two: one that has just begun, and fleets that began apart. After five minutes, or
// when it says so, a peer is gone.
//
// # Secrets
//
// Every packet is encrypted and authenticated, with keys derived by HKDF (RFC 5869) from the secret: AES-256-GCM for
// frames (a key for each life) and direct packets (for each pair of lives), numbers being the nonces;
// XChaCha20-Poly1305 with random nonces for hellos. During a rotation there are two secrets: what either opens is
// taken, the first seals. What no secret opens is counted, costs about 0.3 microseconds and no memory, and is not
// answered. A hello is answered to where membership knows the member to be, at most every 5 ms.
//
// Whoever has the secret is trusted: he can make the others refuse requests, within the caps of the limiter, though
// not admit more than they would alone.
//
// # How many
//
// Everybody sends to everybody. For up to 32 nodes that is what it is made for; with more, as each node's bytes grow
// with their number, the budget (2.5 MB/s unless configured) has less room for keys: what does not fit waits, most
// pressing first, and acknowledgements with it. A node sends per second, at an interval of 50 ms, in kB with UDP and
// IP:
//
//	keys under pressure   2 nodes    3     8     32
//	                  0      1.8   3.7    13     57
//	                 10      5.5    11    38    170
//	                100       23    47   164    728
//	              1,000      216   432  1512   2500 (the budget)
//
// With 64 and 128 nodes and one key at its limit it is 0.5 and 1.0 MB/s, and one limit is kept; there is no relay that would make
// it less. At most 128 nodes find each other: those beyond are refused, and that is reported.
package gossip
