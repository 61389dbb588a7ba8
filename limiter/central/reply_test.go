package central

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/limiter"
)

// Whatever numbers a Redis answers with, a verdict is made of none that cannot be, and says nothing absurd.
func FuzzReply(f *testing.F) {
	f.Add([]byte{})
	rules := []*Rule{}
	for name, spec := range algorithms() {
		spec.Name = strings.ReplaceAll(name, " ", "")
		rules = append(rules, newRule(f, spec))
	}
	seed := make([]byte, 0, 200)
	for _, n := range []int64{1_700_000_000_000_000, 1, 1_700_000_000_100_000, 1, 0} {
		seed = binary.LittleEndian.AppendUint64(seed, uint64(n))
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		a := &ask{}
		for ; len(data) >= 8; data = data[8:] {
			a.reply = append(a.reply, int64(binary.LittleEndian.Uint64(data)))
		}
		for _, r := range rules {
			n := max((len(a.reply)-1)/4, 1)
			verdicts := make([]Verdict, n)
			for i := range verdicts {
				verdicts[i] = Verdict{policy: r.base, rule: r}
			}
			if _, ok := a.decide(verdicts); !ok {
				continue
			}
			for i := range verdicts {
				v := &verdicts[i]
				if v.Remaining() < 0 || v.Remaining() > v.Limit() || v.Reset() < 0 || v.Turn() < 0 || v.RetryAfter() < 0 {
					t.Errorf("%+v: %s", v.state, describe(v))
				}
			}
		}
	})
}

// A server that answers something else than was asked for is one that does not decide.
func TestHostileServer(t *testing.T) {
	for _, c := range []struct{ intent, answer string }{
		{"a status", "+OK\r\n"},
		{"an error", "-WRONGTYPE Operation against a key\r\n"},
		{"a number", ":1\r\n"},
		{"nothing", "_\r\n"},
		{"an empty list", "*0\r\n"},
		{"too few", "*2\r\n:1700000000000000\r\n:1\r\n"},
		{"too many", "*100\r\n" + strings.Repeat(":1\r\n", 100)},
		{"text for numbers", "*5\r\n" + strings.Repeat("$1\r\na\r\n", 5)},
		{"fractions", "*5\r\n" + strings.Repeat(",1.5\r\n", 5)},
		{"lists for numbers", "*5\r\n" + strings.Repeat("*1\r\n:1\r\n", 5)},
		{"a time that overflows", "*5\r\n:9223372036854775807\r\n:1\r\n:9223372036854775807\r\n:0\r\n:0\r\n"},
		{"a debt that cannot be", "*5\r\n:1700000000000000\r\n:1\r\n:1800000000000000\r\n:0\r\n:0\r\n"},
		{"a negative debt", "*5\r\n:1700000000000000\r\n:1\r\n:-1\r\n:-1\r\n:-1\r\n"},
		{"a map", "%1\r\n:1\r\n:2\r\n"},
		{"more than was asked", ":1\r\n:1\r\n"},
		{"a subscription that nobody wanted", ">3\r\n+subscribe\r\n+x\r\n:1\r\n:1\r\n"},
		{"no end", "$1000000000\r\n"},
		{"another protocol", "HTTP/1.1 400 Bad Request\r\n\r\n"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			s := open(t, rueidis.ClientOption{InitAddress: []string{fakeRedis(t, c.answer)}, ForceSingleClient: true}, nil)
			r := newRule(t, limiter.Spec{Name: "r", Rate: limiter.Rate{N: 1, Per: time.Second}, Burst: 5})
			clock := clock{time.Now()}
			for range 20 {
				if _, err := takeOne(s, clock.now(), Charge{Rule: r}); !errors.Is(err, ErrUnavailable) {
					t.Fatalf("err %v", err)
				}
			}
			if s.Stats().Up {
				t.Error("it is still asked")
			}
		})
	}
}

// fakeRedis answers every script with the same, and all else as a Redis would.
func fakeRedis(t *testing.T, answer string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					words, err := readCommand(in)
					if err != nil {
						return
					}
					reply := "+OK\r\n"
					switch strings.ToUpper(words[0]) {
					case "HELLO":
						reply = "%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:3\r\n"
					case "PING":
						reply = "+PONG\r\n"
					case "EVAL", "EVALSHA":
						reply = answer
					}
					if _, err := fmt.Fprint(c, reply); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func readCommand(in *bufio.Reader) (words []string, err error) {
	var n, size int
	if _, err := fmt.Fscanf(in, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	for range n {
		if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		word := make([]byte, size+2)
		for read := 0; read < len(word); {
			m, err := in.Read(word[read:])
			if err != nil {
				return nil, err
			}
			read += m
		}
		words = append(words, string(word[:size]))
	}
	return words, nil
}
