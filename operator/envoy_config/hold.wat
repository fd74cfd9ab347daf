;; Holds response headers until the answer says something, as an upstream HTTP filter.
;;
;; Model servers send their headers before prefill. Passed on at once they commit the client to this attempt, and
;; a server that dies or stalls during prefill could no longer be replaced. What they have to say in the middle of
;; prefill comes too late for a status: an engine that runs out of memory says so in an event of a stream that began
;; with 200. So the answer is held while it consists of comments, and a first event that is an error becomes what it
;; would have been before the headers: its status (500 if it names none) and a JSON body. An error may be retried.
;;
;; Proxy-Wasm ABI 0.2.1. `python scripts/compile_hold.py` makes hold_module.py from this file.
(module
  (import "env" "proxy_get_buffer_bytes"
    (func $get_buffer (param $type i32) (param $start i32) (param $most i32) (param $at i32) (param $size i32)
      (result i32)))
  (import "env" "proxy_set_buffer_bytes"
    (func $set_buffer (param $type i32) (param $start i32) (param $replaced i32) (param $at i32) (param $size i32)
      (result i32)))
  (import "env" "proxy_get_header_map_value"
    (func $get_header (param $map i32) (param $name i32) (param $length i32) (param $at i32) (param $size i32)
      (result i32)))
  (import "env" "proxy_replace_header_map_value"
    (func $set_header (param $map i32) (param $name i32) (param $length i32) (param $at i32) (param $size i32)
      (result i32)))
  (import "env" "proxy_remove_header_map_value"
    (func $remove_header (param $map i32) (param $name i32) (param $length i32) (result i32)))

  ;; 0: words; 16, 20: where the host puts address and size of what it was asked for;
  ;; 4096: one word per held stream, its context, at the place its low bits say; 65536: what the host was asked for
  (memory (export "memory") 2)
  (data (i32.const 32) "data:")
  (data (i32.const 48) "\22error\22")
  (data (i32.const 64) "event:")
  (data (i32.const 80) "error")
  (data (i32.const 96) ":status")
  (data (i32.const 112) "content-type")
  (data (i32.const 128) "application/json")
  (data (i32.const 160) "content-length")
  (data (i32.const 192) "\22code\22")
  (data (i32.const 208) "500")
  (data (i32.const 224) "200")
  (global $streams i32 (i32.const 4096))
  (global $places i32 (i32.const 8191))  ;; a mask; of two streams held at one place the first passes unread
  (global $most i32 (i32.const 16384))   ;; bytes that are looked at; a longer beginning passes as it is
  (global $replaced i32 (i32.const 0x80000000))  ;; added to a context whose body has been replaced: the rest is dropped
  (global $next (mut i32) (i32.const 65536))
  (global $json (mut i32) (i32.const 0))  ;; where the error object of the first event begins, 0 if nowhere

  (func (export "proxy_abi_version_0_2_1"))
  (func (export "_initialize"))
  ;; what the host was asked for is not needed after the call: each call begins at the start again
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $start i32)
    (local.set $start (global.get $next))
    (global.set $next
      (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 15)) (i32.const -16)))
    (local.get $start))
  (func (export "proxy_on_context_create") (param $context i32) (param $parent i32))
  (func (export "proxy_on_vm_start") (param $context i32) (param $size i32) (result i32) (i32.const 1))
  (func (export "proxy_on_configure") (param $context i32) (param $size i32) (result i32) (i32.const 1))

  (func $place (param $context i32) (result i32)
    (i32.add (global.get $streams)
      (i32.shl (i32.and (local.get $context) (global.get $places)) (i32.const 2))))

  ;; 0 = continue, 1 = stop iteration; a bodiless answer goes on at once
  (func (export "proxy_on_response_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (if (i32.eqz (local.get $end)) (then (i32.store (call $place (local.get $context)) (local.get $context))))
    (i32.eqz (local.get $end)))

  ;; 0 = continue, 1 = wait for more of the body
  (func (export "proxy_on_response_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
    (local $place i32) (local $state i32) (local $found i32) (local $stop i32) (local $complete i32) (local $last i32)
    (local.set $state (i32.load (local.tee $place (call $place (local.get $context)))))
    (if (i32.eq (local.get $state) (i32.or (local.get $context) (global.get $replaced))) (then
      (if (local.get $size) (then
        (drop (call $set_buffer (i32.const 1) (i32.const 0) (local.get $size) (i32.const 0) (i32.const 0)))))
      (return (i32.const 0))))
    (if (i32.ne (local.get $state) (local.get $context)) (then (return (i32.const 0))))
    (global.set $next (i32.const 65536))
    (i32.store (local.get $place) (i32.const 0))
    (if (call $get_buffer (i32.const 1) (i32.const 0) (global.get $most) (i32.const 16) (i32.const 20)) (then
      (return (i32.const 0))))
    (local.set $last (i32.add (i32.load (i32.const 16)) (i32.load (i32.const 20))))
    (local.set $complete (i32.or (local.get $end) (i32.ge_u (local.get $size) (global.get $most))))
    (local.set $found (call $classify (i32.load (i32.const 16)) (local.get $last)))
    (if (i32.eq (local.get $found) (i32.const 1)) (then
      (local.set $stop (call $line_end (global.get $json) (local.get $last)))
      (if (i32.and (i32.eqz (local.get $stop)) (i32.eqz (local.get $complete))) (then
        (local.set $found (i32.const 2))))))
    (if (i32.and (i32.eq (local.get $found) (i32.const 2)) (i32.eqz (local.get $complete))) (then
      (i32.store (local.get $place) (local.get $context))
      (return (i32.const 1))))
    (if (i32.and (i32.eq (local.get $found) (i32.const 1)) (call $went_well)) (then
      (drop (call $set_header (i32.const 2) (i32.const 96) (i32.const 7)
        (call $code (global.get $json) (local.get $last)) (i32.const 3)))
      (if (local.get $stop) (then
        (drop (call $set_header (i32.const 2) (i32.const 112) (i32.const 12) (i32.const 128) (i32.const 16)))
        (drop (call $remove_header (i32.const 2) (i32.const 160) (i32.const 14)))
        (drop (call $set_buffer (i32.const 1) (i32.const 0) (local.get $size)
          (global.get $json) (i32.sub (local.get $stop) (global.get $json))))
        (i32.store (local.get $place) (i32.or (local.get $context) (global.get $replaced)))))))
    (i32.const 0))

  ;; whether the status that waits is 200
  (func $went_well (result i32)
    (if (call $get_header (i32.const 2) (i32.const 96) (i32.const 7) (i32.const 16) (i32.const 20)) (then
      (return (i32.const 0))))
    (i32.and
      (i32.eq (i32.load (i32.const 20)) (i32.const 3))
      (i32.eq
        (call $starts (i32.load (i32.const 16)) (i32.add (i32.load (i32.const 16)) (i32.const 3))
          (i32.const 224) (i32.const 3))
        (i32.const 1))))

  ;; what the body begins with: 0 = no error, 1 = an error event, 2 = too little is there to tell; sets $json
  (func $classify (param $at i32) (param $last i32) (result i32)
    (local $byte i32) (local $found i32)
    (global.set $json (i32.const 0))
    (block $event
      (loop $lines
        (if (i32.ge_u (local.get $at) (local.get $last)) (then (return (i32.const 2))))
        (local.set $byte (i32.load8_u (local.get $at)))
        (if (i32.eq (local.get $byte) (i32.const 58)) (then  ;; a comment
          (local.set $at (call $line_end (local.get $at) (local.get $last)))
          (br_if $lines (local.get $at))
          (return (i32.const 2))))
        (br_if $event (i32.eqz (call $ends_line (local.get $byte))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $lines)))
    (local.set $found (call $starts (local.get $at) (local.get $last) (i32.const 64) (i32.const 6)))
    (if (i32.eq (local.get $found) (i32.const 2)) (then (return (i32.const 2))))
    (if (local.get $found) (then (return (call $named (i32.add (local.get $at) (i32.const 6)) (local.get $last)))))
    (local.set $found (call $starts (local.get $at) (local.get $last) (i32.const 32) (i32.const 5)))
    (if (i32.ne (local.get $found) (i32.const 1)) (then (return (local.get $found))))
    (call $object (call $skip (i32.add (local.get $at) (i32.const 5)) (local.get $last)) (local.get $last)))

  ;; the rest of an `event:` line and the line after it, as $classify
  (func $named (param $at i32) (param $last i32) (result i32)
    (local $found i32)
    (local.set $at (call $skip (local.get $at) (local.get $last)))
    (local.set $found (call $starts (local.get $at) (local.get $last) (i32.const 80) (i32.const 5)))
    (if (i32.ne (local.get $found) (i32.const 1)) (then (return (local.get $found))))
    (local.set $at (i32.add (local.get $at) (i32.const 5)))
    (if (i32.ge_u (local.get $at) (local.get $last)) (then (return (i32.const 2))))
    (if (i32.eqz (call $ends_line (i32.load8_u (local.get $at)))) (then (return (i32.const 0))))
    (loop $ends
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (if (i32.ge_u (local.get $at) (local.get $last)) (then (return (i32.const 2))))
      (br_if $ends (call $ends_line (i32.load8_u (local.get $at)))))
    (local.set $found (call $starts (local.get $at) (local.get $last) (i32.const 32) (i32.const 5)))
    (if (i32.ne (local.get $found) (i32.const 1)) (then (return (local.get $found))))
    (local.set $at (call $skip (i32.add (local.get $at) (i32.const 5)) (local.get $last)))
    (if (i32.ge_u (local.get $at) (local.get $last)) (then (return (i32.const 2))))
    (global.set $json (local.get $at))
    (i32.eq (i32.load8_u (local.get $at)) (i32.const 123)))

  ;; whether the object at $at begins with a member "error" that is an object or a text, as $classify
  (func $object (param $at i32) (param $last i32) (result i32)
    (local $found i32) (local $byte i32)
    (if (i32.ge_u (local.get $at) (local.get $last)) (then (return (i32.const 2))))
    (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 123)) (then (return (i32.const 0))))
    (global.set $json (local.get $at))
    (local.set $at (call $skip (i32.add (local.get $at) (i32.const 1)) (local.get $last)))
    (local.set $found (call $starts (local.get $at) (local.get $last) (i32.const 48) (i32.const 7)))
    (if (i32.ne (local.get $found) (i32.const 1)) (then (return (local.get $found))))
    (local.set $at (call $skip (i32.add (local.get $at) (i32.const 7)) (local.get $last)))
    (if (i32.ge_u (local.get $at) (local.get $last)) (then (return (i32.const 2))))
    (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 58)) (then (return (i32.const 0))))
    (local.set $at (call $skip (i32.add (local.get $at) (i32.const 1)) (local.get $last)))
    (if (i32.ge_u (local.get $at) (local.get $last)) (then (return (i32.const 2))))
    (local.set $byte (i32.load8_u (local.get $at)))
    (i32.or (i32.eq (local.get $byte) (i32.const 123)) (i32.eq (local.get $byte) (i32.const 34))))

  ;; where three digits of an error status stand: behind the first "code" that has them, else those of 500
  (func $code (param $at i32) (param $last i32) (result i32)
    (local $digits i32)
    (loop $search
      (if (i32.eq (call $starts (local.get $at) (local.get $last) (i32.const 192) (i32.const 6)) (i32.const 1)) (then
        (local.set $digits (call $skip (i32.add (local.get $at) (i32.const 6)) (local.get $last)))
        (if (call $is (local.get $digits) (local.get $last) (i32.const 58)) (then
          (local.set $digits (call $skip (i32.add (local.get $digits) (i32.const 1)) (local.get $last)))
          (if (call $is (local.get $digits) (local.get $last) (i32.const 34)) (then
            (local.set $digits (i32.add (local.get $digits) (i32.const 1)))))
          (if (call $status (local.get $digits) (local.get $last)) (then (return (local.get $digits))))))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $search (i32.lt_u (local.get $at) (local.get $last))))
    (i32.const 208))

  ;; whether 400 to 599 stands at $at, and no fourth digit
  (func $status (param $at i32) (param $last i32) (result i32)
    (if (i32.gt_u (i32.add (local.get $at) (i32.const 4)) (local.get $last)) (then (return (i32.const 0))))
    (if (i32.gt_u (i32.sub (i32.load8_u (local.get $at)) (i32.const 52)) (i32.const 1)) (then (return (i32.const 0))))
    (i32.and
      (i32.and
        (call $digit (i32.load8_u offset=1 (local.get $at)))
        (call $digit (i32.load8_u offset=2 (local.get $at))))
      (i32.eqz (call $digit (i32.load8_u offset=3 (local.get $at))))))

  (func $digit (param $byte i32) (result i32)
    (i32.lt_u (i32.sub (local.get $byte) (i32.const 48)) (i32.const 10)))

  (func $ends_line (param $byte i32) (result i32)
    (i32.or (i32.eq (local.get $byte) (i32.const 10)) (i32.eq (local.get $byte) (i32.const 13))))

  (func $is (param $at i32) (param $last i32) (param $byte i32) (result i32)
    (if (i32.ge_u (local.get $at) (local.get $last)) (then (return (i32.const 0))))
    (i32.eq (i32.load8_u (local.get $at)) (local.get $byte)))

  ;; where the line that holds $at ends, 0 if it does not
  (func $line_end (param $at i32) (param $last i32) (result i32)
    (loop $bytes
      (if (i32.ge_u (local.get $at) (local.get $last)) (then (return (i32.const 0))))
      (if (call $ends_line (i32.load8_u (local.get $at))) (then (return (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $bytes))
    (unreachable))

  ;; the first place from $at on that is no blank
  (func $skip (param $at i32) (param $last i32) (result i32)
    (loop $bytes
      (if (i32.and
            (i32.lt_u (local.get $at) (local.get $last))
            (i32.eq (i32.load8_u (local.get $at)) (i32.const 32))) (then
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $bytes))))
    (local.get $at))

  ;; whether the $length bytes of $word stand at $at: 0 = no, 1 = yes, 2 = as far as there are any
  (func $starts (param $at i32) (param $last i32) (param $word i32) (param $length i32) (result i32)
    (loop $bytes
      (if (i32.eqz (local.get $length)) (then (return (i32.const 1))))
      (if (i32.ge_u (local.get $at) (local.get $last)) (then (return (i32.const 2))))
      (if (i32.ne (i32.load8_u (local.get $at)) (i32.load8_u (local.get $word))) (then (return (i32.const 0))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (local.set $word (i32.add (local.get $word) (i32.const 1)))
      (local.set $length (i32.sub (local.get $length) (i32.const 1)))
      (br $bytes))
    (unreachable))

  (func (export "proxy_on_done") (param $context i32) (result i32) (i32.const 1))
  (func (export "proxy_on_log") (param $context i32))
  (func (export "proxy_on_delete") (param $context i32)))
