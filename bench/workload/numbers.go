package workload

import "iter"

// Number is a phone number that an account rents.
type Number struct {
	// E164 is its digits, with the country code, as a number.
	E164 uint64
	// Account is the number of its account.
	Account uint32
}

// areaCodes are geographic area codes (NPA) of the United States and Canada.
var areaCodes = [...]uint16{
	201, 202, 203, 204, 205, 206, 207, 208, 209, 210, 212, 213, 214, 215, 216, 217, 218, 219, 224, 225, 228, 229, 231, 234,
	239, 240, 248, 251, 252, 253, 254, 256, 260, 262, 267, 269, 270, 276, 281, 289, 301, 302, 303, 304, 305, 306, 307, 308,
	309, 310, 312, 313, 314, 315, 316, 317, 318, 319, 320, 321, 323, 325, 330, 331, 334, 336, 337, 339, 347, 351, 352, 360,
	361, 385, 386, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 412, 413, 414, 415, 416, 417, 418, 419, 423, 425, 432,
	434, 435, 440, 443, 450, 469, 478, 479, 480, 484, 501, 502, 503, 504, 505, 506, 507, 508, 509, 510, 512, 513, 514, 515,
	516, 517, 518, 519, 520, 530, 540, 541, 551, 559, 561, 562, 563, 567, 570, 571, 573, 574, 580, 585, 586, 601, 602, 603,
	604, 605, 606, 607, 608, 609, 610, 612, 613, 614, 615, 616, 617, 618, 619, 620, 623, 626, 630, 631, 636, 641, 646, 650,
	651, 660, 661, 662, 678, 682, 701, 702, 703, 704, 705, 706, 707, 708, 712, 713, 714, 715, 716, 717, 718, 719, 720, 724,
	727, 731, 732, 734, 740, 754, 757, 760, 763, 765, 770, 772, 773, 774, 775, 778, 781, 785, 786, 801, 802, 803, 804, 805,
	806, 808, 810, 812, 813, 814, 815, 816, 817, 818, 828, 830, 831, 832, 843, 845, 847, 848, 850, 856, 857, 858, 859, 860,
	862, 863, 864, 865, 867, 870, 878, 901, 902, 903, 904, 905, 906, 907, 908, 909, 910, 912, 913, 914, 915, 916, 917, 918,
	919, 920, 925, 928, 931, 936, 937, 940, 941, 947, 949, 951, 952, 954, 956, 970, 971, 972, 973, 978, 979, 980, 985, 989,
}

// tollFreeCodes are the area codes whose calls the called party pays.
var tollFreeCodes = [...]uint16{800, 833, 844, 855, 866, 877, 888}

const (
	// exchangesPerArea counts the exchanges 200 to 999 that do not end in 11.
	exchangesPerArea = 8 * 99
	linesPerExchange = 10_000
	linesPerArea     = exchangesPerArea * linesPerExchange
	exchangeCount    = len(areaCodes) * exchangesPerArea
	// stride is a prime that divides none of the sizes of numbering plans: multiples of it spread over a plan without
	// meeting.
	stride = 2_654_435_761
)

// nanp gives the number at a place of the North American plan made of the area codes.
func nanp(areas []uint16, place uint64) uint64 {
	area, rest := uint64(areas[place/linesPerArea]), place%linesPerArea
	exchange, line := exchangeAt(rest/linesPerExchange), rest%linesPerExchange
	return 10_000_000_000 + area*10_000_000 + exchange*linesPerExchange + line
}

// exchangeAt gives the n-th exchange, 200 to 999 without those that end in 11.
func exchangeAt(n uint64) uint64 {
	ending := n % 99
	if ending >= 11 {
		ending++
	}
	return 200 + n/99*100 + ending
}

// span is a run of numbers of one country.
type span struct{ first, count uint64 }

var (
	// europeanSpans are geographic numbers of London, Berlin, Paris and Milan.
	europeanSpans = [...]span{{44_20_7000_0000, 20_000_000}, {49_30_2000_0000, 70_000_000}, {33_1_4000_0000, 20_000_000}, {39_02_2000_0000, 70_000_000}}
	// peerSpans are other parties abroad: the same, mobile phones there, and numbers of Mexico, India and Australia.
	peerSpans = [...]span{{44_20_7000_0000, 20_000_000}, {49_30_2000_0000, 70_000_000}, {33_1_4000_0000, 20_000_000}, {39_02_2000_0000, 70_000_000},
		{44_7400_000000, 500_000_000}, {49_151_00000000, 100_000_000}, {33_6_00000000, 100_000_000}, {39_333_0000000, 10_000_000},
		{52_55_1000_0000, 80_000_000}, {91_98_00000000, 100_000_000}, {61_4_00000000, 100_000_000}}
	// satelliteSpan is a satellite network that no tariff prices.
	satelliteSpan = span{8816_0000_0000, 100_000_000}
)

func (s span) draw(d *dice) uint64 { return s.first + d.below(s.count) }

// Numbers gives every number that the installation rents out, by ascending account. No two are equal.
func (w *Workload) Numbers() iter.Seq[Number] {
	return func(yield func(Number) bool) {
		for i := range w.config.Accounts {
			for k := range w.config.NumbersPerAccount {
				if !yield(Number{E164: w.numberOf(i, k), Account: FirstAccount + uint32(i)}) {
					return
				}
			}
		}
	}
}

// numberOf gives the k-th number of the account with index i: European on that plan, else local or, 15 in 100, toll-free.
func (w *Workload) numberOf(i, k int) uint64 {
	n := uint64(i)*uint64(w.config.NumbersPerAccount) + uint64(k)
	account := newDice(w.config.Seed^saltAccounts, uint64(i))
	d := newDice(w.config.Seed^saltNumbers, n)
	if drawPlan(&account) == europe {
		s := europeanSpans[d.below(uint64(len(europeanSpans)))]
		return s.first + w.scatter(n, s.count)
	}
	if d.fraction() < 0.15 {
		return nanp(tollFreeCodes[:], w.scatter(n, linesPerArea*uint64(len(tollFreeCodes))))
	}
	return nanp(areaCodes[:], w.scatter(n, linesPerArea*uint64(len(areaCodes))))
}

// unownedNumber draws a local number that no account rents: one of those that would come after the last.
func (w *Workload) unownedNumber(d *dice) uint64 {
	owned := uint64(w.config.Accounts) * uint64(w.config.NumbersPerAccount)
	return nanp(areaCodes[:], w.scatter(owned+d.below(NumbersLimit), linesPerArea*uint64(len(areaCodes))))
}

// scatter gives n a place in a plan of some size: another place for every n below the size.
func (w *Workload) scatter(n, size uint64) uint64 { return (w.config.Seed%size + n*stride) % size }

// drawPeer draws the other party of a call or message of an account's number. 0 is a caller who hides the number.
func drawPeer(d *dice, number uint64, service Service) uint64 {
	f := d.fraction()
	if f < 0.02 && service.inbound() {
		return 0
	}
	abroad := 0.06
	if !isNANP(number) {
		abroad = 0.85
	}
	switch {
	case f > 1-abroad:
		return peerSpans[d.below(uint64(len(peerSpans)))].draw(d)
	case f < 0.05 && !service.inbound():
		return nanp(tollFreeCodes[:], d.below(linesPerArea*uint64(len(tollFreeCodes))))
	}
	return nanp(areaCodes[:], d.below(linesPerArea*uint64(len(areaCodes))))
}

func isNANP(number uint64) bool { return number/10_000_000_000 == 1 }
