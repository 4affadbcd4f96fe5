package local

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Ports come from below every usual range of outgoing ports (Linux: 32768 and up). A port of that range could be taken, while
// its server is down, by the very client that tries to reconnect to it: the client would then talk to itself.
const (
	lowestPort  = 15000
	highestPort = 32000
	portTries   = 1000
)

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// choosePorts gives the ports of the last start on this folder if they are free, else fresh ones.
func choosePorts(dir string, count int) ([]int, error) {
	text, err := os.ReadFile(filepath.Join(dir, "ports"))
	if err != nil {
		return freshPorts(dir, count)
	}
	var ports []int
	for _, word := range strings.Fields(string(text)) {
		port, err := strconv.Atoi(word)
		if err != nil || !isFree(port) {
			return freshPorts(dir, count)
		}
		ports = append(ports, port)
	}
	if len(ports) != count {
		return freshPorts(dir, count)
	}
	return ports, nil
}

// FreeAddress gives a loopback address that nobody listens on now, of a port that no outgoing connection will take.
func FreeAddress() (string, error) {
	ports, err := pickPorts(1)
	if err != nil {
		return "", err
	}
	return loopback(ports[0]), nil
}

// freshPorts picks free ports and remembers them in the folder.
func freshPorts(dir string, count int) ([]int, error) {
	ports, err := pickPorts(count)
	if err != nil {
		return nil, err
	}
	_, err = writeConfig(dir, "ports", strings.Trim(fmt.Sprint(ports), "[]")+"\n")
	return ports, err
}

func pickPorts(count int) ([]int, error) {
	var ports []int
	taken := map[int]bool{}
	for try := 0; try < portTries && len(ports) < count; try++ {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		if !taken[port] && isFree(port) {
			taken[port] = true
			ports = append(ports, port)
		}
	}
	if len(ports) < count {
		return nil, fmt.Errorf("cannot find %d free ports between %d and %d on 127.0.0.1", count, lowestPort, highestPort)
	}
	return ports, nil
}

func isFree(port int) bool {
	listener, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

func joinPorts(ports []int) string {
	var words []string
	for _, port := range ports {
		words = append(words, loopback(port))
	}
	return strings.Join(words, " and ")
}
