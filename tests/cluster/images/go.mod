module plumb.dev/tests/cluster/images

go 1.26.0
