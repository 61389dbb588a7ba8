package revocation

import (
	"context"
	"time"
)

// Memory is a Store that keeps nothing: what is revoked is forgotten with the process.
type Memory struct{ list *List }

// NewMemory makes a Store that only puts entries in force.
func NewMemory(list *List) *Memory { return &Memory{list} }

// Add implements Store.
func (m *Memory) Add(_ context.Context, e Entry, now time.Time) error {
	if err := e.Check(now); err != nil {
		return err
	}
	_, err := m.list.Add(e, now)
	return err
}

// forget is how often a Store forgets what has ended.
const forget = time.Minute

// Run implements Store.
func (m *Memory) Run(ctx context.Context) {
	again := time.NewTicker(forget)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-again.C:
			m.list.Expire(now)
		}
	}
}

// Close implements Store.
func (m *Memory) Close() error { return nil }
