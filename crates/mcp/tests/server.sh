#!/bin/sh
# An MCP server for tests, over stdin and stdout: a message a line. It writes what happens to it to $LOG, if that is set.

note() { if [ -n "$LOG" ]; then echo "$1" >> "$LOG"; fi; }
answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
refuse() { printf '{"jsonrpc":"2.0","id":%s,"error":{"code":%s,"message":"%s"}}\n' "$id" "$1" "$2"; }
text() { answer "{\"content\":[{\"type\":\"text\",\"text\":\"$1\"}],\"isError\":$2}"; }
tool() { printf '{"name":"%s","description":"%s","inputSchema":{"type":"object"}}' "$1" "$2"; }

note "begins $$"
echo "a line for the log" >&2
while IFS= read -r line; do
    # The first number of the message is its id.
    id=${line#*\"id\":}
    id=${id%%[!0-9]*}
    case $line in
        *'"method":"initialize"'*)
            info='"serverInfo":{"name":"test","version":"1"}'
            answer "{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{\"tools\":{}},$info}" ;;
        *'"method":"notifications/cancelled"'*) note "cancelled" ;;
        *'"method":"notifications/'*) ;;
        *'"method":"tools/list"'*'"cursor":"more"'*)
            answer "{\"tools\":[$(tool fail 'tells of a failure'),$(tool slow 'never answers')]}" ;;
        *'"method":"tools/list"'*)
            answer "{\"tools\":[$(tool echo 'gives back its arguments')],\"nextCursor\":\"more\"}" ;;
        *'"name":"echo"'*)
            arguments=${line#*\"arguments\":}
            answer "{\"content\":[{\"type\":\"text\",\"text\":\"echo\"}],\"structuredContent\":${arguments%\}\}}}" ;;
        *'"name":"media"'*)
            answer '{"content":[{"type":"image","data":"aGk=","mimeType":"image/png"},{"type":"resource","resource":{"uri":"a://b","text":"c"}}]}' ;;
        *'"name":"environment"'*) text "$SECRET,$HOME" false ;;
        *'"name":"fail"'*) text "it failed" true ;;
        *'"name":"slow"'*) note "slow" ;;
        *'"name":"die"'*) exit 3 ;;
        *'"name":"nonsense"'*) echo "this is no JSON"; answer '"no result"' ;;
        *'"name":"large"'*) text "$(printf '%01000000d' 0)" false ;;
        *'"name":"broken"'*) refuse -32603 "something is broken" ;;
        *) refuse -32602 "no such tool" ;;
    esac
done
note "ends"
