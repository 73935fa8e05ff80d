module example.com/{{name}}

go 1.26.0

require interlock/clients/go v{{version}}

replace interlock/clients/go => {{client}}
