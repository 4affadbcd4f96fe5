//go:build unix && !linux

package local

import "errors"

func newDisk(string) error    { return errors.New("only Linux can mount one") }
func growDisk(string) error   { return nil }
func shrinkDisk(string) error { return nil }
func dropDisk(string) error   { return nil }
