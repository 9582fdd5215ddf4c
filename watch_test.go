package main

import (
	"io"
	"net"
	"testing"
	"time"
)

// seconds lets so many pass for the watch.
func seconds(w *watch, n int) {
	for range n {
		w.look()
	}
}

func TestAConnectionThatStandsStillEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(c *watchedConn, peer net.Conn)
		may  int // seconds
	}{
		{"nothing comes", func(*watchedConn, net.Conn) {}, 120},
		{"half a request comes", func(c *watchedConn, peer net.Conn) {
			peer.Write([]byte("GET / HT"))
			c.Read(make([]byte, 100))
		}, 10},
		{"a byte comes now and then", func(c *watchedConn, peer net.Conn) {
			peer.Write([]byte("G"))
			c.Read(make([]byte, 100))
			seconds(c.watch, 5)
			peer.Write([]byte("E"))
			c.Read(make([]byte, 100))
		}, 5},
		{"nothing comes after an answer", func(c *watchedConn, peer net.Conn) {
			peer.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			c.Read(make([]byte, 100))
			c.enter(answering)
			seconds(c.watch, 1000) // as long as it takes
			c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
		}, 120},
		{"the answer is not read", func(c *watchedConn, _ net.Conn) { c.enter(writing) }, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			w := newWatch(l)
			w.stop() // the test tells the time
			defer l.Close()
			peer, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			accepted, err := w.Accept()
			if err != nil {
				t.Fatal(err)
			}
			c := accepted.(*watchedConn)
			tt.do(c, peer)
			seconds(w, tt.may)
			if _, err := c.Conn.Write([]byte("still open")); err != nil {
				t.Errorf("it has ended too early: %v", err)
			}
			seconds(w, 1)
			peer.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadAll(peer); err != nil {
				t.Errorf("it has not ended: %v", err)
			}
			c.Close()
			if len(w.conns) != 0 {
				t.Errorf("%d connections are watched after the end, want 0", len(w.conns))
			}
		})
	}
}
