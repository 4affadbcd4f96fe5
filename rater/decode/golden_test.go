package decode

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the .want files from what is decoded now")

var northAmerica = &Mapping{DefaultCountry: "1"}

// samples gives the messages in the testdata folder of a format, by path.
func samples(t testing.TB, format Format) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", format.String(), "*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no samples of %s: %v", format, err)
	}
	messages := map[string][]byte{}
	for _, path := range paths {
		if strings.HasSuffix(path, ".want") {
			continue
		}
		message, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		messages[path] = message
	}
	return messages
}

// described lists the fields of all records of a message, a line each.
func described(t testing.TB, format Format, message []byte) string {
	t.Helper()
	var d Decoder
	if err := d.Reset(format, 1, northAmerica, message); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	var r Record
	for n := 1; d.Next(&r); n++ {
		fmt.Fprintf(&text, "record %d of %d bytes\n", n, len(r.Raw))
		for _, f := range d.Fields(&r) {
			fmt.Fprintf(&text, "  %-10s%-26s%s\n", f.Name, f.Key, f.Value)
		}
	}
	return text.String()
}

func TestSamples(t *testing.T) {
	for _, format := range Formats() {
		for path, message := range samples(t, format) {
			got, wanted := described(t, format, message), path+".want"
			if *update {
				if err := os.WriteFile(wanted, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want, err := os.ReadFile(wanted)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s:\n%s\nwant:\n%s", path, got, want)
			}
		}
	}
}
