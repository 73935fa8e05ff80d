module example.com/{{name}}

go 1.26.0

require interlock.internal/clients/go v{{version}}

replace interlock.internal/clients/go => {{client}}
