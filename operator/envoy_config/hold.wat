;; Holds response headers until the first body byte (or the end of the stream), as an upstream HTTP filter.
;;
;; Model servers send their headers before prefill. Passed on at once they commit the client to this attempt, and
;; a server that dies or stalls during prefill could no longer be replaced. Proxy-Wasm ABI 0.2.1; no host calls.
;; `python scripts/compile_hold.py` makes hold_module.py from this file.
(module
  (memory (export "memory") 2)
  ;; bump allocator: the host asks for a little memory at start-up only
  (global $next (mut i32) (i32.const 4096))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "_initialize"))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $start i32)
    (local.set $start (global.get $next))
    (global.set $next
      (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 15)) (i32.const -16)))
    (local.get $start))
  (func (export "proxy_on_context_create") (param $context i32) (param $parent i32))
  (func (export "proxy_on_vm_start") (param $context i32) (param $size i32) (result i32) (i32.const 1))
  (func (export "proxy_on_configure") (param $context i32) (param $size i32) (result i32) (i32.const 1))
  ;; 0 = continue, 1 = stop iteration; a bodiless answer goes on at once
  (func (export "proxy_on_response_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (i32.eqz (local.get $end)))
  (func (export "proxy_on_response_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
    (i32.const 0))
  (func (export "proxy_on_done") (param $context i32) (result i32) (i32.const 1))
  (func (export "proxy_on_log") (param $context i32))
  (func (export "proxy_on_delete") (param $context i32)))
