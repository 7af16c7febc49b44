# nginx: the module, its demo and its tests. Included by the Makefile.
#
#   make nginx-module   the module for Debian's nginx, target/nginx/ngx_http_push_module.so
#   make demo-nginx     nginx, pushd and the demo page at http://127.0.0.1:8080/ (PORT= changes it), until Ctrl-C
#   make test-nginx     the module in Debian's nginx; part of `make test`

NGINX_DIR := examples-c/nginx

.PHONY: nginx-module demo-nginx test-nginx

# nginx-dev has the sources of the installed nginx: the two packages have the same version.
nginx-module: examples
	@tests/need /usr/sbin/nginx:nginx /usr/share/nginx/src/conf_flags:nginx-dev
	@PKG_CONFIG_PATH=$(STAGE)/lib/pkgconfig $(MAKE) --no-print-directory -s -C $(NGINX_DIR) OUT=$(CURDIR)/target/nginx \
		LDFLAGS=-Wl,-rpath,$(STAGE)/lib

demo-nginx: nginx-module
	@$(NGINX_DIR)/demo $(PORT)

test-nginx: nginx-module
	@tests/part nginx tests/nginx/run
