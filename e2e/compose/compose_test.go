// Package compose_test reads the Compose files and the Dockerfile as Docker does, and
// checks what they promise. It needs no Docker.
package compose_test

import (
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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
	adds := map[string][]string{"traefik": {"traefik"}, "caddy": {"caddy"}, "fleet": {"fleet-nginx", "replica-1", "replica-2", "replica-3", "valkey"}}
	for _, profiles := range [][]string{nil, {"traefik"}, {"caddy"}, {"traefik", "caddy"}, {"fleet"}, {"fleet", "caddy"}} {
		project, err := load(t, demo, nil, profiles...)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(base)
		for _, p := range profiles {
			want = append(want, adds[p]...)
		}
		slices.Sort(want)
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
	pinned  = regexp.MustCompile(`^[a-z/]+:v?[0-9]+\.[0-9]+\.[0-9]+(-[a-z]+)?$`)
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

// The replicas have one Redis and one secret, and nginx asks each of them.
func TestTheReplicasAreOneFleet(t *testing.T) {
	services := loadAll(t, demo).Services
	conf, err := os.ReadFile("../../deploy/compose/fleet.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"replica-1", "replica-2", "replica-3"} {
		env := services[name].Environment
		for _, setting := range []string{"AUTHGEAR_REDIS_URL", "AUTHGEAR_FLEET_SECRET", "AUTHGEAR_ENDPOINT"} {
			if env[setting] == nil || *env[setting] != *services["replica-1"].Environment[setting] {
				t.Errorf("%s: another %s than replica-1's", name, setting)
			}
		}
		if len(*env["AUTHGEAR_FLEET_SECRET"]) < 32 {
			t.Errorf("%s: the secret is too short for the service", name)
		}
		if !strings.Contains(string(conf), "server "+name+":4180 max_fails=0;") {
			t.Errorf("nginx does not ask %s", name)
		}
		if _, waits := services["fleet-nginx"].DependsOn[name]; !waits {
			t.Errorf("nginx does not wait for %s", name)
		}
	}
}

// Valkey takes Redis's command line, and Redis is what is at hand.
func TestRedisTakesItsCommandLine(t *testing.T) {
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not installed: `make redis-server` installs it")
	}
	services := loadAll(t, demo).Services
	socket := filepath.Join(t.TempDir(), "redis.sock")
	cmd := exec.Command(redis, append(slices.Clone(services["valkey"].Command), "--port", "0", "--unixsocket", socket)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	url, err := url.Parse(*services["replica-1"].Environment["AUTHGEAR_REDIS_URL"])
	if err != nil || url.Hostname() != "valkey" {
		t.Fatalf("%v, %v", url, err)
	}
	password, _ := url.User.Password()
	health := strings.Replace(services["valkey"].HealthCheck.Test[1], "valkey-cli", "redis-cli -s "+socket, 1)
	for end := time.Now().Add(20 * time.Second); exec.Command("sh", "-c", health).Run() != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not get well: %s", health)
		}
	}
	out, err := exec.Command("redis-cli", "-s", socket, "--no-auth-warning", "-a", password, "config", "get", "maxmemory-policy").Output()
	if err != nil || !strings.Contains(string(out), "volatile-ttl") {
		t.Errorf("%s, %v", out, err)
	}
}
