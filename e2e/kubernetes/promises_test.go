package kubernetes_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// service returns the container of the service in a pod.
func service(t *testing.T, pod corev1.PodSpec) corev1.Container {
	t.Helper()
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		if c.Name == "authgear-forward-auth" {
			return c
		}
	}
	t.Fatal("there is no container authgear-forward-auth")
	return corev1.Container{}
}

// environment returns the settings of the service.
func environment(t *testing.T, dir string) map[string]string {
	t.Helper()
	made := build(t, tree(t), dir)
	c := service(t, into[appsv1.Deployment](t, made, "Deployment")[0].Spec.Template.Spec)
	all := map[string]string{}
	for _, m := range into[corev1.ConfigMap](t, made, "ConfigMap") {
		if len(c.EnvFrom) == 1 && m.Name == c.EnvFrom[0].ConfigMapRef.Name {
			maps.Copy(all, m.Data)
		}
	}
	for _, e := range c.Env {
		all[e.Name] = e.Value
	}
	return all
}

func TestTheSettingsAreThoseOfTheService(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, dir := range variants {
		env := environment(t, dir)
		for variable := range env {
			if !strings.Contains(string(readme), "\n| [`"+variable+"`](") {
				t.Errorf("%s: %s is no setting", name, variable)
			}
		}
		if env["AUTHGEAR_ENDPOINT"] == "" {
			t.Errorf("%s: AUTHGEAR_ENDPOINT is missing", name)
		}
	}
	if got := environment(t, "own")["AUTHGEAR_ENDPOINT"]; got != "https://mine.authgear.cloud" {
		t.Errorf("an operator's own endpoint becomes %s", got)
	}
}

// A file that a setting names is in a volume, and what is mounted is made.
func TestTheFilesOfTheSettingsAreMounted(t *testing.T) {
	made := build(t, tree(t), "own")
	pod := into[appsv1.Deployment](t, made, "Deployment")[0].Spec.Template.Spec
	c := service(t, pod)
	secrets := map[string]string{} // :: path → Secret
	for _, m := range c.VolumeMounts {
		i := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 || pod.Volumes[i].Secret == nil {
			t.Fatalf("%s is no volume of a Secret", m.Name)
		}
		secrets[m.MountPath] = pod.Volumes[i].Secret.SecretName
	}
	files := 0
	for name, value := range environment(t, "own") {
		if !strings.HasPrefix(value, "/") {
			continue
		}
		files++
		if path := value[:strings.LastIndex(value, "/")]; secrets[path] == "" {
			t.Errorf("%s: nothing is mounted at %s", name, path)
		}
	}
	if files != 6 {
		t.Errorf("%d files are named, want 6", files)
	}
	generated := 0
	for _, s := range into[corev1.Secret](t, made, "Secret") {
		dir := "/etc/authgear-forward-auth/webhook"
		if strings.Contains(s.Name, "-fleet-") {
			dir = "/etc/authgear-forward-auth/fleet"
		}
		if generated++; secrets[dir] != s.Name {
			t.Errorf("at %s the Secret %s is mounted, and %s was made", dir, secrets[dir], s.Name)
		}
		for name, value := range environment(t, "own") {
			if file, ok := strings.CutPrefix(value, dir+"/"); ok && string(s.Data[file]) == "" {
				t.Errorf("%s names %s, which %s does not have", name, file, s.Name)
			}
		}
	}
	if generated != 2 {
		t.Errorf("%d Secrets are made, want 2", generated)
	}
	if want := "registry.example.com/authgear-forward-auth:v1.2.3"; c.Image != want {
		t.Errorf("the image is %s, want %s", c.Image, want)
	}
}

func TestWhatSelectsPodsSelectsThese(t *testing.T) {
	for name, dir := range variants {
		made := build(t, tree(t), dir)
		d := into[appsv1.Deployment](t, made, "Deployment")[0]
		pods := labels.Set(d.Spec.Template.Labels)
		check := func(what string, s *metav1.LabelSelector) {
			selector, err := metav1.LabelSelectorAsSelector(s)
			if err != nil || selector.Empty() || !selector.Matches(pods) {
				t.Errorf("%s: %s selects %v, %v; the pods have %v", name, what, s, err, pods)
			}
		}
		check("the Deployment", d.Spec.Selector)
		for _, s := range into[corev1.Service](t, made, "Service") {
			check("the Service", &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
		}
		for _, n := range into[networkingv1.NetworkPolicy](t, made, "NetworkPolicy") {
			check("the NetworkPolicy", &n.Spec.PodSelector)
		}
		if name == "sidecar-example" {
			continue
		}
		for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
			check("the spread over "+c.TopologyKey, c.LabelSelector)
		}
		check("the PodDisruptionBudget", into[policyv1.PodDisruptionBudget](t, made, "PodDisruptionBudget")[0].Spec.Selector)
		scaled := into[autoscalingv2.HorizontalPodAutoscaler](t, made, "HorizontalPodAutoscaler")[0].Spec
		if scaled.ScaleTargetRef.Name != d.Name || d.Spec.Replicas != nil || *scaled.MinReplicas < 2 {
			t.Errorf("%s: %+v scales %s, which itself says %v", name, scaled, d.Name, d.Spec.Replicas)
		}
	}
}

// Only the namespaces of the proxy and of monitoring reach the ports of the service.
func TestEachPortIsForOneNamespace(t *testing.T) {
	for name, want := range map[string]map[string]string{
		"base":            {"http": "ingress-nginx", "admin": "monitoring"},
		"sidecar-example": {"http": "", "authgear-admin": "monitoring"},
		"all components":  {"http": "traefik", "admin": "metrics"}, // patched
	} {
		made := build(t, tree(t), variants[name])
		got := map[string]string{} // :: port → namespace, "" for all
		for _, rule := range into[networkingv1.NetworkPolicy](t, made, "NetworkPolicy")[0].Spec.Ingress {
			from := ""
			for _, peer := range rule.From {
				from += peer.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"]
			}
			for _, port := range rule.Ports {
				got[port.Port.String()] = from
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: the ports are for %v, want %v", name, got, want)
		}
	}
}

// A fleet has a Redis that its pods reach, and no fewer pods than without.
func TestAFleetReachesItsRedis(t *testing.T) {
	made := build(t, tree(t), "own")
	policy := into[networkingv1.NetworkPolicy](t, made, "NetworkPolicy")[0].Spec
	if !slices.Contains(policy.PolicyTypes, networkingv1.PolicyTypeEgress) || !slices.Contains(policy.PolicyTypes, networkingv1.PolicyTypeIngress) {
		t.Errorf("the policy is for %v", policy.PolicyTypes)
	}
	got := map[string]string{} // :: port → namespace, "" for all
	for _, rule := range policy.Egress {
		to := ""
		for _, peer := range rule.To {
			to += peer.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"]
		}
		for _, port := range rule.Ports {
			got[port.Port.String()] = to
		}
	}
	if want := map[string]string{"53": "", "443": "", "6379": "redis"}; !maps.Equal(got, want) {
		t.Errorf("the pods reach %v, want %v", got, want)
	}
	if scaled := into[autoscalingv2.HorizontalPodAutoscaler](t, made, "HorizontalPodAutoscaler")[0].Spec; *scaled.MinReplicas < 3 || scaled.MaxReplicas < 10 {
		t.Errorf("from %d to %d pods", *scaled.MinReplicas, scaled.MaxReplicas)
	}
	if alone := into[networkingv1.NetworkPolicy](t, build(t, tree(t), "base"), "NetworkPolicy")[0].Spec; len(alone.Egress) != 0 || len(alone.PolicyTypes) != 1 {
		t.Errorf("without a fleet: %+v", alone)
	}
}

func TestAPodHasTimeToStop(t *testing.T) {
	for name, dir := range variants {
		made := build(t, tree(t), dir)
		pod := into[appsv1.Deployment](t, made, "Deployment")[0].Spec.Template.Spec
		delay, err := time.ParseDuration(environment(t, dir)["AUTHGEAR_DRAIN_DELAY"])
		if err != nil && name != "sidecar-example" { // there nginx has a delay, and the service outlives it
			t.Errorf("%s: the delay: %v", name, err)
		}
		patience := 30 * time.Second // Kubernetes' own
		if s := pod.TerminationGracePeriodSeconds; s != nil {
			patience = time.Duration(*s) * time.Second
		}
		if delay+10*time.Second >= patience {
			t.Errorf("%s: after %s it is killed, but it may take %s and 10s", name, patience, delay)
		}
		if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
			t.Errorf("%s: Services become AUTHGEAR_* variables", name)
		}
	}
}

// A probe asks at a port that the container has, where the service answers it.
func TestTheProbesAskTheAdminListener(t *testing.T) {
	for name, dir := range variants {
		c := service(t, into[appsv1.Deployment](t, build(t, tree(t), dir), "Deployment")[0].Spec.Template.Spec)
		admin := regexp.MustCompile(`:(\d+)$`).FindStringSubmatch(environment(t, dir)["AUTHGEAR_ADMIN_LISTEN"])
		for path, probe := range map[string]*corev1.Probe{"/readyz": c.ReadinessProbe, "/healthz": c.LivenessProbe} {
			if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path {
				t.Errorf("%s: %s is not asked", name, path)
				continue
			}
			i := slices.IndexFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == probe.HTTPGet.Port.String() })
			if i < 0 || admin == nil || admin[1] != strconv.Itoa(int(c.Ports[i].ContainerPort)) {
				t.Errorf("%s: %s is asked at %s, the admin listener is %v", name, path, probe.HTTPGet.Port.String(), admin)
			}
		}
	}
}
