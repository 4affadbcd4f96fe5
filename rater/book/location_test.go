package book

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A zone is that of the database in the binary, whatever the machine says: here the machine has New York in the tropics.
func TestZonesAreTheSameOnEveryMachine(t *testing.T) {
	ms := time.Date(2027, 1, 15, 3, 0, 0, 0, time.UTC).UnixMilli() // 22:00 the day before in New York
	singapore, err := openZoneinfo()
	if err != nil {
		t.Fatal(err)
	}
	other, err := singapore.Open("Asia/Singapore")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "America"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 1<<16)
	n, _ := other.Read(text)
	if err := os.WriteFile(filepath.Join(dir, "America", "New_York"), text[:n], 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ZONEINFO", dir)
	z, err := newZone(1, "America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	if day := FormatDay(z.Day(ms)); day != "2027-01-14" {
		t.Errorf("the day in New York is %s", day)
	}
	for _, name := range []string{"", "Local", "America", "america/new_york", "../etc/passwd", "/etc/localtime", "Nowhere/Land"} {
		if _, err := LoadLocation(name); err == nil {
			t.Errorf("there is a zone %q", name)
		}
	}
}
