package limiter

import "math/bits"

// book is where shared buckets are kept. It is made with the first shared rule, and not before.
type book struct {
	table
	cold, hot list // of slots with something to tell
	records   records
}

func newBook(capacity, peers int, plans *plans) *book {
	b := &book{}
	b.wide, b.plans = make([]wideRow, rowsFor(capacity)), plans
	largePages(b.wide)
	b.cold, b.hot = newList(b.slots()), newList(b.slots())
	b.records = newRecords(capacity/64, peers)
	return b
}

// first is the number of the row in which a key's bucket is looked for first.
func (b *book) first(k Key) int {
	n, _ := bits.Mul64(uint64(k), uint64(len(b.wide)))
	return int(n)
}

func (b *book) at(id uint32) *wide { return &b.wide[id/rowSize][id%rowSize] }

// list puts a slot in the lists that its use says it is in since now.
func (b *book) list(id uint32, lists uint64) {
	if lists&listedHot != 0 {
		b.hot.add(id)
	}
	if lists&listedCold != 0 {
		b.cold.add(id)
	}
}
