// Package kubernetes_test builds what deploy/kubernetes has as `kubectl apply -k` does, and
// validates it as Kubernetes does: against the schemas of its API, which kubectl-validate
// has with it, and against the Pod Security Standard "restricted". It needs no cluster.
package kubernetes_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kubectl-validate/pkg/openapiclient"
	"sigs.k8s.io/kubectl-validate/pkg/validator"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const deploy = "../../deploy/kubernetes"

// variants are what is shipped, and an operator's own kustomization with all components.
// :: name → directory
var variants = map[string]string{
	"base":            "base",
	"sidecar-example": "sidecar-example",
	"all components":  "own",
}

// own is the kustomization that docs/running.md has.
const own = "own/kustomization.yaml"

// tree returns deploy/kubernetes, edited, with a kustomization of an operator's own.
func tree(t *testing.T, oldnew ...string) filesys.FileSystem {
	t.Helper()
	fs := filesys.MakeFsInMemory()
	put := func(name, text string) {
		if err := fs.WriteFile(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	edit, edited := strings.NewReplacer(oldnew...), len(oldnew) == 0
	err := filepath.WalkDir(deploy, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(deploy, path)
		text := edit.Replace(string(content))
		edited = edited || text != string(content)
		put(name, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !edited {
		t.Fatalf("nothing has %q", oldnew[0])
	}
	put("webhook/webhook-secret", "0123456789abcdef")
	put("fleet/redis-url", "rediss://:0123456789abcdef@redis:6379")
	put("fleet/fleet-secret", "0123456789abcdef0123456789abcdef")
	put(own, ownKustomization(t))
	put("own/settings.env", "AUTHGEAR_ENDPOINT=https://mine.authgear.cloud\n")
	return fs
}

// ownKustomization is what docs/running.md tells to write.
func ownKustomization(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/running.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```yaml\n# kustomization.yaml\n")
	text, _, found := strings.Cut(text, "```")
	if !found {
		t.Fatal("docs/running.md has no kustomization.yaml")
	}
	return strings.ReplaceAll(text, "authgear-forward-auth/deploy/kubernetes/", "../")
}

func build(t *testing.T, fs filesys.FileSystem, dir string) resmap.ResMap {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(fs, dir)
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	return made
}

// problems returns what Kubernetes says against the objects.
func problems(t *testing.T, made resmap.ResMap) (list []string) {
	t.Helper()
	// The newest that it has. A sidecar is known since 1.28.
	schemas, err := validator.New(openapiclient.NewHardcodedBuiltins("1.30"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range made.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		_, object, err := schemas.Parse(text)
		if err == nil {
			err = schemas.Validate(object)
		}
		if err != nil {
			list = append(list, r.CurId().String()+": "+err.Error())
		}
	}
	return list
}

func TestKubernetesTakesIt(t *testing.T) {
	for name, dir := range variants {
		for _, problem := range problems(t, build(t, tree(t), dir)) {
			t.Errorf("%s: %s", name, problem)
		}
	}
}

func TestWhatKubernetesDoesNotTakeIsSeen(t *testing.T) {
	for _, tt := range []struct{ name, dir, old, new string }{
		{"a slip in a field", "base", "readinessProbe:", "readinesProbe:"},
		{"a text for a number", "base", "minReplicas: 2", "minReplicas: two"},
		{"an old version", "base", "apiVersion: autoscaling/v2", "apiVersion: autoscaling/v2beta1"},
		{"a slip in a component", "own", "defaultMode: 0440", "mode: 0440"},
		{"a slip in the fleet", "own", "namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: redis", "namespace: { matchLabels: { kubernetes.io/metadata.name: redis"},
		{"a slip in the sidecar", "sidecar-example", "sizeLimit: 1Mi", "limit: 1Mi"},
	} {
		if len(problems(t, build(t, tree(t, tt.old, tt.new), tt.dir))) == 0 {
			t.Errorf("%s is not seen", tt.name)
		}
	}
}

// into reads an object into its type, in which every field must be known.
func into[T any](t *testing.T, made resmap.ResMap, kind string) (list []T) {
	t.Helper()
	for _, r := range made.Resources() {
		if r.GetKind() != kind {
			continue
		}
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		var object T
		if err := yaml.UnmarshalStrict(text, &object); err != nil {
			t.Fatalf("%s: %v", r.CurId(), err)
		}
		list = append(list, object)
	}
	if len(list) == 0 {
		t.Fatalf("there is no %s", kind)
	}
	return list
}

// The strictest standard that Kubernetes has.
func TestEveryPodIsRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	allowed := func(d appsv1.Deployment) policy.AggregateCheckResult {
		template := d.Spec.Template
		return policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &template.ObjectMeta, &template.Spec))
	}
	for name, dir := range variants {
		for _, d := range into[appsv1.Deployment](t, build(t, tree(t), dir), "Deployment") {
			if result := allowed(d); !result.Allowed {
				t.Errorf("%s: %s", name, result.ForbiddenDetail())
			}
			for _, c := range append(d.Spec.Template.Spec.InitContainers, d.Spec.Template.Spec.Containers...) {
				if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
					t.Errorf("%s: %s can write to its file system", name, c.Name)
				}
			}
		}
	}
	loose := into[appsv1.Deployment](t, build(t, tree(t, "drop: [ALL]", "drop: []"), "base"), "Deployment")[0]
	if allowed(loose).Allowed {
		t.Error("a pod with capabilities is allowed")
	}
}
