package auth

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

// benchClaims makes a token of the length that identity providers make.
func benchClaims(n int) string {
	return with(fmt.Sprintf(`"jti":"%032d","iat":1799999000,"scope":"read:orders write:orders","email":"alice@example.com","roles":%q`, n, strings.Repeat("r", 200)))
}

func BenchmarkIssuer(b *testing.B) {
	cached, plain := jwtConfig(b), jwtConfig(b)
	cached.Cache = 100_000
	run := func(config IssuerConfig, alg string) func(*testing.B) {
		return func(b *testing.B) {
			i := newTestIssuer(b, config)
			token, ctx, now := []byte(sealed(alg, benchClaims(0))), b.Context(), jwtNow()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := i.Authenticate(ctx, token, now); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.Run("cached", run(cached, "RS256"))
	b.Run("rs256", run(plain, "RS256"))
	b.Run("es256", run(plain, "ES256"))
	b.Run("eddsa", run(plain, "EdDSA"))
	b.Run("cached/many", func(b *testing.B) { benchmarkMany(b, 50_000) })
}

// benchmarkMany uses so many tokens in turn that the processor's caches do not hold them.
func benchmarkMany(b *testing.B, count int) {
	config := jwtConfig(b)
	config.Keys, config.Algorithms, config.Secret, config.Cache = nil, []string{"HS256"}, []byte(jwtSecret), 100_000
	i := newTestIssuer(b, config)
	tokens := make([][]byte, count)
	for n := range tokens {
		tokens[n] = []byte(sealed("HS256", benchClaims(n)))
		if _, err := i.Authenticate(b.Context(), tokens[n], jwtNow()); err != nil {
			b.Fatal(err)
		}
	}
	ctx, now, n := b.Context(), jwtNow(), 0
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.Authenticate(ctx, tokens[n], now); err != nil {
			b.Fatal(err)
		}
		n = (n + 7919) % count
	}
	b.ReportMetric(float64(i.Stats().Hits)/float64(i.Stats().Hits+i.Stats().Misses-uint64(count)), "hits/op")
}

// BenchmarkRawRS256 is what a signature costs without anything around it.
func BenchmarkRawRS256(b *testing.B) {
	key := &theJWTKeys().rsa.PublicKey
	input := []byte(benchClaims(0))
	signature := signatureOf("RS256", string(input))
	for b.Loop() {
		sum := sha256.Sum256(input)
		if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBearerToken(b *testing.B) {
	value := []byte("Bearer " + sealed("RS256", benchClaims(0)))
	b.ReportAllocs()
	for b.Loop() {
		BearerToken(value)
	}
}
