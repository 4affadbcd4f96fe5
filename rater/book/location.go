package book

import (
	"archive/zip"
	_ "embed" // the zones
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// zoneinfo is the IANA time zone database, release 2025c, as Go 1.26 packs it. Package time would ask the machine first, and
// two machines that disagree on a zone would disagree on days, prices and owners.
//
//go:embed zoneinfo.zip
var zoneinfo string

var openZoneinfo = sync.OnceValues(func() (*zip.Reader, error) {
	return zip.NewReader(strings.NewReader(zoneinfo), int64(len(zoneinfo)))
})

// LoadLocation finds an IANA zone, the same on every machine. "Local" is none: it would be another on every machine.
func LoadLocation(name string) (*time.Location, error) {
	location, err := loadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("unknown zone %q: use an IANA name, such as America/New_York", name)
	}
	return location, nil
}

func loadLocation(name string) (*time.Location, error) {
	if name == "UTC" {
		return time.UTC, nil
	}
	files, err := openZoneinfo()
	if err != nil {
		return nil, err
	}
	file, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	return time.LoadLocationFromTZData(name, data)
}
