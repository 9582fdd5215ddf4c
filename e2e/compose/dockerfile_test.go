package compose_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

const root = "../.."

func dockerfile(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// baseImages are those that may be built on. Each is for every machine; more is not
// known of them here.
type baseImages []string

func (b baseImages) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	if !slices.Contains(b, ref) {
		return "", "", nil, fmt.Errorf("%s is neither a stage nor one of %v", ref, b)
	}
	config, err := json.Marshal(ocispecs.Image{Platform: *opt.ImageOpt.Platform})
	return ref, digest.FromBytes(config), config, err
}

func options(text []byte, platform, target string) dockerfile2llb.ConvertOpt {
	machine := ocispecs.Platform{OS: "linux", Architecture: platform}
	source := llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", text)
	source.Definition = &llb.Definition{} // needed to report where a remark belongs
	return dockerfile2llb.ConvertOpt{
		Config:         dockerui.Config{Target: target, BuildPlatforms: []ocispecs.Platform{{OS: "linux", Architecture: "amd64"}}},
		SourceMap:      source,
		TargetPlatform: &machine,
		MetaResolver:   baseImages{"docker.io/library/golang:1.26-bookworm", "gcr.io/distroless/static-debian12:nonroot"},
	}
}

// As `docker build --check` does.
func TestDockerFindsNothingToRemark(t *testing.T) {
	text := dockerfile(t)
	found, err := dockerfile2llb.DockerfileLint(t.Context(), text, options(text, "arm64", ""))
	if err != nil {
		t.Fatal(err)
	}
	if found.Error != nil {
		t.Error(found.Error.Message)
	}
	for _, w := range found.Warnings {
		t.Errorf("line %v: %s: %s", w.Location, w.RuleName, w.Detail)
	}
}

func TestTheLastStageIsTheService(t *testing.T) {
	text := dockerfile(t)
	for target, program := range map[string]string{
		"":             "/usr/bin/authgear-forward-auth",
		"authgear-dev": "/usr/bin/authgear-dev",
	} {
		built, err := dockerfile2llb.Dockerfile2LLB(t.Context(), text, options(text, "arm64", target))
		if err != nil {
			t.Fatal(err)
		}
		c := built.Image.Config
		if len(c.Entrypoint) != 1 || c.Entrypoint[0] != program || c.User != "65532:65532" {
			t.Errorf("target %q runs %v as %s", target, c.Entrypoint, c.User)
		}
		if target == "" && (c.Healthcheck == nil || strings.Join(c.Healthcheck.Test, " ") != "CMD "+program+" healthcheck") {
			t.Errorf("its health check is %+v", c.Healthcheck)
		}
		if built.Image.Architecture != "arm64" {
			t.Errorf("for arm64 it is an image of %s", built.Image.Architecture)
		}
	}
}

const most = 13 << 20 // bytes; with the base the image has 15 MB at most

// The commands of the Dockerfile build, from what .dockerignore leaves, a static
// program, twice the same.
func TestTheImagesPrograms(t *testing.T) {
	for stage, program := range map[string]string{"build": "authgear-forward-auth", "build-authgear-dev": "authgear-dev"} {
		command := buildCommand(t, stage)
		here, there := buildContext(t), buildContext(t)
		for machine, want := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
			one := build(t, here, command, machine, program)
			if again := build(t, there, command, machine, program); !bytes.Equal(one, again) {
				t.Errorf("%s for %s differs from one build to the next", program, machine)
			}
			if len(one) > most {
				t.Errorf("%s for %s has %d bytes", program, machine, len(one))
			}
			t.Logf("%s for %s: %d bytes", program, machine, len(one))
			static(t, one, want)
		}
	}
}

// buildCommand returns what the last RUN of the stage runs.
func buildCommand(t *testing.T, stage string) string {
	t.Helper()
	parsed, err := parser.Parse(bytes.NewReader(dockerfile(t)))
	if err != nil {
		t.Fatal(err)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	i, ok := instructions.HasStage(stages, stage)
	if !ok {
		t.Fatalf("the Dockerfile has no stage %s", stage)
	}
	commands := stages[i].Commands
	run, ok := commands[len(commands)-1].(*instructions.RunCommand)
	if !ok {
		t.Fatalf("stage %s does not end with RUN", stage)
	}
	return strings.Join(run.CmdLine, " ")
}

// buildContext returns a directory with what Docker would send to the builder.
func buildContext(t *testing.T) string {
	t.Helper()
	f, err := os.Open(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	patterns, err := ignorefile.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		skip, err := ignored.MatchesOrParentMatches(name)
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case skip && d.IsDir():
			return fs.SkipDir
		case skip:
			return nil
		case d.IsDir():
			return os.Mkdir(filepath.Join(dir, name), 0o755)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), text, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func build(t *testing.T, dir, command, machine, program string) []byte {
	t.Helper()
	out := t.TempDir()
	c := exec.Command("sh", "-c", strings.ReplaceAll(command, "/out/", out+"/"))
	c.Dir = dir
	c.Env = append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0", "TARGETOS=linux", "TARGETARCH="+machine, "VERSION=v1.2.3")
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, text)
	}
	built, err := os.ReadFile(filepath.Join(out, program))
	if err != nil {
		t.Fatal(err)
	}
	return built
}

func static(t *testing.T, program []byte, want elf.Machine) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	if f.Machine != want {
		t.Errorf("it is for %s, want %s", f.Machine, want)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it needs a loader, which the image has not")
		}
	}
}
