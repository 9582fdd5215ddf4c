// Package envoy_test reads the shipped configuration as Envoy does: each field by its
// name and type, and by the rules of Envoy's API. It needs no Envoy.
package envoy_test

import (
	"os"
	"strings"
	"testing"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"sigs.k8s.io/yaml"
)

func TestEnvoyCanReadIt(t *testing.T) {
	text, err := os.ReadFile("../../envoy/envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"127.0.0.1", "::1", "auth.internal"} {
		if err := validate(strings.ReplaceAll(string(text), "127.0.0.1", address)); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, tt := range []struct{ old, new string }{ // it does find mistakes
		{"failure_mode_allow:", "failure_mode_deny:"},
		{"code: ServiceUnavailable", "code: Unavailable"},
		{"port_value: 4180", "port_value: 418000"},
	} {
		if wrong := strings.ReplaceAll(string(text), tt.old, tt.new); wrong == string(text) || validate(wrong) == nil {
			t.Errorf("with %s it is read, too", tt.new)
		}
	}
}

func validate(text string) error {
	asJSON, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return err
	}
	var conf bootstrap.Bootstrap
	if err := protojson.Unmarshal(asJSON, &conf); err != nil {
		return err
	}
	return conf.ValidateAll()
}
