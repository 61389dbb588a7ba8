package main

import (
	"bufio"
	"crypto/sha1" // #nosec G505 -- the handshake of RFC 6455 is made with it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Opcodes and bits of a WebSocket frame (RFC 6455, section 5.2).
const (
	wsText   = 0x1
	wsBinary = 0x2
	wsClose  = 0x8
	wsPing   = 0x9
	wsPong   = 0xa

	wsFinal  = 0x80
	wsMasked = 0x80
	wsOpcode = 0x0f

	wsLargest = 125 // bytes in a frame: more would need a longer length
)

// echoWebSocket sends every short message back: as much of RFC 6455 as a demo needs.
func echoWebSocket(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || key == "" {
		http.Error(w, "this is a WebSocket", http.StatusUpgradeRequired)
		return
	}
	conn, stream, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // #nosec G401 -- as above
	fmt.Fprintf(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	for err == nil {
		if err = stream.Flush(); err == nil {
			err = echoFrame(stream)
		}
	}
	_ = stream.Flush()
}

// echoFrame answers one frame. Its error ends the connection.
func echoFrame(stream *bufio.ReadWriter) error {
	var head struct {
		First, Second byte
		Mask          [4]byte
	}
	if err := binary.Read(stream, binary.BigEndian, &head); err != nil {
		return err
	}
	size := int(head.Second &^ wsMasked)
	if head.Second&wsMasked == 0 || head.First&wsFinal == 0 || size > wsLargest {
		return errors.New("a frame that is not masked, not whole or not short")
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(stream, payload); err != nil {
		return err
	}
	for i := range payload {
		payload[i] ^= head.Mask[i%4]
	}
	opcode, end := head.First&wsOpcode, error(nil)
	switch opcode {
	case wsText, wsBinary:
	case wsPing:
		opcode = wsPong
	case wsClose:
		end = io.EOF
	default:
		return nil
	}
	_, err := stream.Write(append([]byte{wsFinal | opcode, byte(size)}, payload...))
	return errors.Join(err, end)
}
