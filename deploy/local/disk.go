package local

import (
	"fmt"
	"os"
)

// OwnDisk tells whether the server's data lies on a disk of its own, which can be made full.
func (s *Server) OwnDisk() bool { return s.ownDisk }

// FillDisk makes the server's own disk full: whatever it writes next finds no space left. What is there stays.
func (s *Server) FillDisk() error {
	if !s.ownDisk {
		return fmt.Errorf("cannot fill the disk of %s: it has none of its own; name it in Config.OwnDisks, as root on Linux", s.Part)
	}
	return shrinkDisk(s.Dir)
}

// FreeDisk gives the server's own disk its space back.
func (s *Server) FreeDisk() error {
	if !s.ownDisk {
		return nil
	}
	return growDisk(s.Dir)
}

// mountDisk gives the server's folder a disk of its own, or says in one line why it has none.
func (s *Server) mountDisk() {
	err := os.MkdirAll(s.Dir, 0o755)
	if err == nil {
		err = newDisk(s.Dir)
	}
	if err != nil {
		s.report(fmt.Sprintf("%s: has no disk of its own that could be made full: %v", s.Part, err))
		return
	}
	s.ownDisk = true
}

// unmountDisk removes the disk with all that is on it.
func (s *Server) unmountDisk() error {
	if !s.ownDisk {
		return nil
	}
	s.ownDisk = false
	return dropDisk(s.Dir)
}
