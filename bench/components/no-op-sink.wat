;; A sink that takes everything and keeps nothing: `discard:` as a component.
;;
;; The result at address 0 stays zero, which is `ok`. What the sink is given is never read, so that
;; key and event may lie in the same place, and each call overwrites what the last one was given.
(component
  (core module $module
    ;; One page is more than any event that is measured, and the least that an instance can cost.
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "put") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
  (core instance $core (instantiate $module))
  (type $error (variant
    (case "conflict") (case "rejected" string) (case "unavailable" u32)
    (case "unknown") (case "failed" string)))
  (func $put (param "key" string) (param "event" string) (result (result (error $error)))
    (canon lift (core func $core "put") (memory (core memory $core "memory"))
      (realloc (core func $core "realloc"))))
  ;; An exported function names its types by their exports, hence the component in between.
  (component $names
    (type $error (variant
      (case "conflict") (case "rejected" string) (case "unavailable" u32)
      (case "unknown") (case "failed" string)))
    (import "error" (type $imported (eq $error)))
    (import "put" (func $put
      (param "key" string) (param "event" string) (result (result (error $imported)))))
    (export $exported "put-error" (type $error))
    (export "put" (func $put) (func
      (param "key" string) (param "event" string) (result (result (error $exported))))))
  (instance $sink (instantiate $names
    (with "error" (type $error)) (with "put" (func $put))))
  (export "alldata:peer/put-sink@0.1.0" (instance $sink)))
