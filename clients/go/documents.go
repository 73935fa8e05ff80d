package interlock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	pb "interlock.internal/clients/go/interlockv1"
)

// Document is the JSON object that encoding/json makes of a struct or a map, as a message. A whole number that a double cannot hold
// is an error: send it as a string.
func Document(value any) (*structpb.Struct, error) {
	if value == nil {
		return nil, nil
	}
	encoded, err := exactJSON(value)
	if err != nil {
		return nil, err
	}
	if string(encoded) == "null" {
		return nil, nil
	}
	found := &structpb.Struct{}
	if err := found.UnmarshalJSON(encoded); err != nil {
		return nil, fmt.Errorf("a document is what JSON calls an object: %w", err)
	}
	return found, nil
}

// document is a value of the caller within the server's limit. `name` is for the error.
func document(name string, value any) (*structpb.Struct, error) {
	found, err := Document(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if encoded, err := found.MarshalJSON(); err == nil && len(encoded) > 2*documentBytes {
		return nil, fmt.Errorf("%s: the document has %d bytes as JSON, %d are allowed", name, len(encoded), documentBytes)
	}
	return found, nil
}

// Decode fills a value, as encoding/json does, from a document: the payload of a job, the artifacts of a stage.
func Decode(document *structpb.Struct, into any) error { return decode(document, into) }

// DecodeFields fills a value, as encoding/json does, from the fields of a record.
func DecodeFields(record *pb.Record, into any) error {
	return decode(&structpb.Struct{Fields: record.GetFields()}, into)
}

// documentValue is what encoding/json makes of a value, as a message.
func documentValue(value any) (*structpb.Value, error) {
	encoded, err := exactJSON(value)
	if err != nil {
		return nil, err
	}
	found := &structpb.Value{}
	return found, found.UnmarshalJSON(encoded)
}

// exactJSON is what encoding/json makes of a value. Error: a whole number in it is none that a double holds.
func exactJSON(value any) ([]byte, error) {
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	tokens := json.NewDecoder(bytes.NewReader(encoded))
	tokens.UseNumber()
	for {
		token, err := tokens.Token()
		if errors.Is(err, io.EOF) {
			return encoded, nil
		}
		if err != nil {
			return nil, err
		}
		number, ok := token.(json.Number)
		if !ok || strings.ContainsAny(number.String(), ".eE") {
			continue
		}
		if !isExact(number) {
			return nil, fmt.Errorf("the whole number %s would not be exact, because numbers of documents are doubles: send it as a string", number)
		}
	}
}

// isExact says whether a double holds the whole number, or is what encoding/json has written so.
func isExact(number json.Number) bool {
	double, err := number.Float64()
	if err != nil {
		return false
	}
	exact, _ := new(big.Float).SetFloat64(double).Int(nil)
	return exact.String() == number.String() || strconv.FormatFloat(double, 'f', -1, 64) == number.String()
}

// decode fills a value of the caller from a document.
func decode(from *structpb.Struct, into any) error {
	if from == nil {
		from = &structpb.Struct{}
	}
	encoded, err := from.MarshalJSON()
	if err != nil {
		return err
	}
	return json.Unmarshal(encoded, into)
}
