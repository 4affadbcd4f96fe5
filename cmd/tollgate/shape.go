package main

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// checkShape compares the keys and values of a YAML text with the fields of a type, so that whoever wrote it reads the
// line, the path of the key and what is wanted there, and nothing of Go. What it lets pass, the decoder can decode;
// anchors and aliases are left to the decoder.
func checkShape(text []byte, want reflect.Type) error {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return onOneLine(err, text)
	}
	bodies := 0
	for _, document := range file.Docs {
		if _, comment := document.Body.(*ast.CommentGroupNode); comment || document.Body == nil {
			continue
		}
		if bodies++; bodies > 1 {
			return at(document.Body, "", "a second document begins here: use one")
		}
		if err := checkNode(document.Body, want, ""); err != nil {
			return err
		}
	}
	return nil
}

// checkNode compares one value. A value that is left out has its default.
func checkNode(node ast.Node, want reflect.Type, path string) error {
	switch n := node.(type) {
	case nil, *ast.NullNode, *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return nil
	case *ast.MappingValueNode:
		return checkNode(&ast.MappingNode{BaseNode: n.BaseNode, Start: n.GetToken(), Values: []*ast.MappingValueNode{n}}, want, path)
	case *ast.MappingNode:
		if want.Kind() == reflect.Struct {
			return checkKeys(n, want, path)
		}
	case *ast.SequenceNode:
		if want.Kind() == reflect.Slice {
			for i, value := range n.Values {
				if err := checkNode(value, want.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
					return err
				}
			}
			return nil
		}
	case ast.ScalarNode:
		if fits(n, want) {
			return nil
		}
		return at(node, path, "%s is wanted here, not %q", wanted(want), fmt.Sprint(n.GetValue()))
	}
	return at(node, path, "%s is wanted here", wanted(want))
}

// fits tells whether a scalar is of the type.
func fits(node ast.ScalarNode, want reflect.Type) bool {
	kind := node.Type()
	if want == reflect.TypeFor[time.Duration]() {
		_, err := time.ParseDuration(fmt.Sprint(node.GetValue()))
		return err == nil
	}
	switch want.Kind() {
	case reflect.String:
		return true
	case reflect.Bool:
		return kind == ast.BoolType
	case reflect.Float64:
		if kind == ast.FloatType {
			return true
		}
	case reflect.Int, reflect.Int64, reflect.Uint64:
	default:
		return false
	}
	return kind == ast.IntegerType && yaml.NodeToValue(node, reflect.New(want).Interface()) == nil
}

// wanted says in words what a key of the type takes.
func wanted(t reflect.Type) string {
	if t == reflect.TypeFor[time.Duration]() {
		return "a duration such as 5ms, 1s, 10m or 2h"
	}
	switch t.Kind() {
	case reflect.Struct:
		return "a mapping of keys"
	case reflect.Slice:
		return "a list, such as [a, b],"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	case reflect.Float64:
		return "a number"
	case reflect.Uint64:
		return "a whole number, not below 0,"
	}
	return "a whole number"
}

// checkKeys compares a mapping with the fields of a struct.
func checkKeys(node *ast.MappingNode, want reflect.Type, path string) error {
	fields, names := map[string]reflect.Type{}, []string(nil)
	for _, f := range reflect.VisibleFields(want) {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name != "" {
			fields[name], names = f.Type, append(names, name)
		}
	}
	for _, pair := range node.Values {
		if pair.Key.IsMergeKey() {
			continue // its value is an alias
		}
		key := pair.Key.GetToken().Value
		field, ok := fields[key]
		if !ok {
			return at(pair.Key, inPath(path, key), "there is no such key: use some of %s", strings.Join(names, ", "))
		}
		if err := checkNode(pair.Value, field, inPath(path, key)); err != nil {
			return err
		}
	}
	return nil
}

func inPath(path, key string) string { return strings.TrimPrefix(path+"."+key, ".") }

// at puts the line of a node and the path of its key before what is wrong there.
func at(node ast.Node, path, format string, args ...any) error {
	if path != "" {
		path += ": "
	}
	return fmt.Errorf("line %d: %s%s", node.GetToken().Position.Line, path, fmt.Sprintf(format, args...))
}

// onOneLine says in one line what the parser or the decoder found, and where.
func onOneLine(err error, text []byte) error {
	var found yaml.Error
	if !errors.As(err, &found) || found.GetToken() == nil {
		return err
	}
	number := found.GetToken().Position.Line
	lines := strings.Split(string(text), "\n")
	return fmt.Errorf("line %d: %s: %s", number, strings.TrimSpace(lines[min(number, len(lines))-1]), found.GetMessage())
}
