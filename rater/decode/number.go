package decode

// The digits of a number of ITU-T E.164 with its calling code: at most 15; shorter than 7 are short codes and
// extensions, which nobody else can reach.
const (
	minNumberDigits = 7
	maxNumberDigits = 15
	// maxNationalDigits is the longest number that is taken for a national one without its trunk prefix.
	maxNationalDigits = 10
)

// ParseNumber reads a telephone number as carriers write it, and gives its E.164 digits as a number. Spaces, hyphens,
// dots and parentheses are skipped. What begins with + or 00 is international. Bare digits are international too,
// unless there is a default country: then they are national when they begin with the trunk prefix 0 (which North
// America, "1", does not have), or have at most 10 digits and do not begin with the country's own code. Everything else,
// such as sip:kevin@example.com, a name or a short code, is not a number.
func ParseNumber(written []byte, defaultCountry string) (digits uint64, ok bool) {
	plus, count, zeros := false, 0, 0
	for _, c := range written {
		switch {
		case c == '0' && digits == 0:
			zeros++
		case c-'0' < 10:
			if count++; count > maxNumberDigits {
				return 0, false
			}
			digits = digits*10 + uint64(c-'0')
		case c == '+' && !plus && digits == 0 && zeros == 0:
			plus = true
		case c == ' ' || c == '-' || c == '.' || c == '(' || c == ')':
		default:
			return 0, false
		}
	}
	if count < minNumberDigits || plus && zeros > 0 || zeros > 2 {
		return 0, false
	}
	if plus || zeros == 2 {
		return digits, true
	}
	return withCountry(digits, count, zeros, defaultCountry)
}

// withCountry completes count digits that were written with no or one zero before them and without a sign that they
// are international.
func withCountry(digits uint64, count, zeros int, country string) (uint64, bool) {
	if country == "" {
		return digits, zeros == 0
	}
	code, power := uint64(0), uint64(1)
	for i := range len(country) {
		code = code*10 + uint64(country[i]-'0')
	}
	for range count {
		power *= 10
	}
	codePower := uint64(1)
	for range len(country) {
		codePower *= 10
	}
	national := zeros == 1 || count <= maxNationalDigits && digits/(power/codePower) != code
	if !national {
		return digits, true
	}
	if zeros == 1 && country == "1" || count+len(country) > maxNumberDigits {
		return 0, false
	}
	return code*power + digits, true
}
