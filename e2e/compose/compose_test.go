// Package compose_test reads the Compose files and the Dockerfile as Docker does, and
// checks what they promise. It needs no Docker.
package compose_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const (
	demo = "../../docker-compose.yml"
	own  = "../../deploy/compose/authgear.yml"
)

const everything = "*"

// load reads a Compose file as `docker compose config` does, in an environment of
// its own.
func load(t *testing.T, file string, env []string, profiles ...string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{file}, cli.WithEnv(env), cli.WithProfiles(profiles))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

func loadAll(t *testing.T, file string) *types.Project {
	t.Helper()
	project, err := load(t, file, []string{"AUTHGEAR_ENDPOINT=https://myapp.authgear.cloud"}, everything)
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestTheProxyThatAProfileNamesIsAdded(t *testing.T) {
	base := []string{"app", "authgear", "authgear-forward-auth", "nginx"}
	for _, profiles := range [][]string{nil, {"traefik"}, {"caddy"}, {"traefik", "caddy"}} {
		project, err := load(t, demo, nil, profiles...)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Sorted(slices.Values(append(profiles, base...)))
		if got := slices.Sorted(maps.Keys(project.Services)); !slices.Equal(got, want) {
			t.Errorf("with profiles %v run %v, want %v", profiles, got, want)
		}
	}
}

func TestYourOwnProjectMustBeNamed(t *testing.T) {
	_, err := load(t, own, nil)
	if err == nil || !strings.Contains(err.Error(), "AUTHGEAR_ENDPOINT") {
		t.Errorf("without AUTHGEAR_ENDPOINT: %v", err)
	}
}

var (
	notRoot = regexp.MustCompile(`^[1-9][0-9]*:[1-9][0-9]*$`)
	pinned  = regexp.MustCompile(`^[a-z]+:v?[0-9]+\.[0-9]+\.[0-9]+(-[a-z]+)?$`)
)

func TestEveryContainerIsConfined(t *testing.T) {
	for _, file := range []string{demo, own} {
		ports := map[string]string{}
		for name, s := range loadAll(t, file).Services {
			rule := func(ok bool, what string) {
				if !ok {
					t.Errorf("%s: it is not so that %s %s", file, name, what)
				}
			}
			rule(notRoot.MatchString(s.User), "runs as another user than root, by number, not "+s.User)
			rule(s.ReadOnly, "cannot write to its file system")
			rule(slices.Equal(s.CapDrop, []string{"ALL"}), "has no capabilities")
			rule(len(s.CapAdd) == 0 || name == "caddy" && slices.Equal(s.CapAdd, []string{"NET_BIND_SERVICE"}), "gets none back")
			rule(slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}), "gains no privileges")
			rule(!s.Privileged && s.NetworkMode == "" && s.Pid == "" && s.Ipc == "", "shares nothing with the host")
			rule(s.HealthCheck != nil && !s.HealthCheck.Disable && len(s.HealthCheck.Test) > 1, "has a health check")
			rule(s.Build != nil || pinned.MatchString(s.Image), "has a pinned image, not "+s.Image)
			// With a name for the built image Compose would first look for it in a registry.
			rule(s.Build == nil || s.Image == "", "is built here")
			for on, d := range s.DependsOn {
				rule(d.Condition == types.ServiceConditionHealthy, "waits until "+on+" is healthy")
			}
			for _, p := range s.Ports {
				rule(p.HostIP == "127.0.0.1", "is reached from this machine alone")
				rule(ports[p.Published] == "", "shares a port with "+ports[p.Published])
				ports[p.Published] = name
			}
			for _, v := range s.Volumes {
				info, err := os.Stat(v.Source)
				rule(err == nil && info.Mode().IsRegular() && v.ReadOnly, "mounts a file that is there, to read: "+v.Source)
			}
		}
	}
}

func TestTheServiceAsksTheDevelopmentAuthgearByItsOwnName(t *testing.T) {
	services := loadAll(t, demo).Services
	endpoint := services["authgear-forward-auth"].Environment["AUTHGEAR_ENDPOINT"]
	if endpoint == nil || !slices.Contains(services["authgear"].Command, "-origin="+*endpoint) {
		t.Errorf("the endpoint is %v, Authgear runs as %q", endpoint, services["authgear"].Command)
	}
}
