// Package direct moves bytes by sockets at the least cost, and makes Go look at the network.
package direct
