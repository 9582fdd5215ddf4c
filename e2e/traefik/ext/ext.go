// Package ext stands in for a module of Traefik that is not published. In the
// open version its types are empty.
package ext

// HTTP extends the HTTP configuration.
type HTTP struct{}

// Router extends a router.
type Router struct{}
