package resolver_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"authgear-forward-auth/resolver"
)

func TestTheReasonsAreAllThatAreDeclared(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "resolver.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []resolver.Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if of, ok := spec.Type.(*ast.Ident); ok && of.Name == "Reason" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			declared = append(declared, resolver.Reason(text))
		}
		return true
	})
	if len(declared) == 0 || !slices.Equal(declared, resolver.Reasons) {
		t.Errorf("declared are\n%q, but Reasons are\n%q", declared, resolver.Reasons)
	}
}
