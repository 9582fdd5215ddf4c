//go:build !linux || 386 || race

package main

import "net"

func direct(c net.Conn) net.Conn { return c }
