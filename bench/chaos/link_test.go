package chaos

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"
)

// An echo is a server that answers with what it was asked, behind its name.
func echo(t *testing.T, name string) (address string, asked chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	asked = make(chan string, 100)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					asked <- lines.Text()
					_, _ = io.WriteString(conn, name+" "+lines.Text()+"\n")
				}
			}()
		}
	}()
	return listener.Addr().String(), asked
}

// ask asks over a new connection, and gives the answer or the reason why there is none.
func ask(t *testing.T, address, question string) (string, error) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, question+"\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

func TestLink(t *testing.T) {
	first, asked := echo(t, "first")
	second, _ := echo(t, "second")
	l, err := newLink("test")
	if err != nil {
		t.Fatal(err)
	}
	defer l.cut()
	expect := func(want string) {
		t.Helper()
		if got, err := ask(t, l.address(), "hello"); got != want+" hello\n" || err != nil {
			t.Fatalf("the answer is %q instead of that of %s: %v", got, want, err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.lead(first))
	expect("first")
	must(l.lead(second))
	expect("second")
	l.cut()
	if got, err := ask(t, l.address(), "hello"); err == nil {
		t.Fatalf("a cut link answers %q", got)
	}
	must(l.mend())
	must(l.mend()) // once more is nothing
	expect("second")

	must(l.lead(first))
	for len(asked) > 0 {
		<-asked
	}
	answered := make(chan error, 1)
	spoilt := make(chan error, 1)
	go func() { spoilt <- l.spoil(t.Context(), "timeout", "downstream", "timeout", 50, 300*time.Millisecond) }()
	for l.proxy.Toxics.GetToxic("timeout") == nil {
		time.Sleep(time.Millisecond)
	}
	go func() {
		_, err := ask(t, l.address(), "lost")
		answered <- err
	}()
	if got := <-asked; got != "lost" {
		t.Fatalf("the server was asked %q", got)
	}
	if err := <-answered; err == nil {
		t.Fatal("a lost reply came")
	}
	must(<-spoilt)
	expect("first")
}

// A port that is taken for a moment more, as by a copy of the closed listener in a program being started, is waited for.
func TestLinkWaitsForItsPort(t *testing.T) {
	server, _ := echo(t, "server")
	l, err := newLink("test")
	if err != nil {
		t.Fatal(err)
	}
	defer l.cut()
	for _, again := range []func() error{func() error { return l.lead(server) }, l.mend} {
		l.cut()
		taken, err := net.Listen("tcp", l.address())
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(5*listenPause, func() { taken.Close() })
		if err := again(); err != nil {
			t.Fatal(err)
		}
		if answer, err := ask(t, l.address(), "a"); answer != "server a\n" {
			t.Fatalf("it answered %q, %v", answer, err)
		}
	}
}
