# Installs and uninstalls libpush. The Makefile includes this; `make -f install.mk install` works as well.
#
#     make install [PREFIX=/usr/local] [LIBDIR=$(PREFIX)/lib] [INCLUDEDIR=$(PREFIX)/include] [DESTDIR=]
#
# DESTDIR is a staging root, for packages. It is put before every path that is written to. No installed file has it.
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
UNITDIR ?= $(PREFIX)/lib/systemd/system
INCLUDEDIR ?= $(PREFIX)/include
DESTDIR ?=
INSTALL ?= install

INSTALL_ROOT := $(dir $(lastword $(MAKEFILE_LIST)))
INSTALL_LIBRARY ?= $(INSTALL_ROOT)target/release/libpush.so
INSTALL_PUSHD ?= $(INSTALL_ROOT)target/release/pushd
INSTALL_PUSHCTL ?= $(INSTALL_ROOT)target/release/pushctl

# Cargo.toml is the only place that has the version. The soname is the first number, also for 0.x, as in cargo-c.
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' $(INSTALL_ROOT)Cargo.toml | head -n 1)
SOVERSION := $(firstword $(subst ., ,$(VERSION)))

# The pointer size comes from the ELF class, byte 4: 1 is 32 bits, 2 is 64.
INSTALL_SUBSTITUTE = sed \
	-e 's|@VERSION@|$(VERSION)|g' -e 's|@SOVERSION@|$(SOVERSION)|g' \
	-e 's|@PREFIX@|$(PREFIX)|g' \
	-e 's|@BINDIR@|$(BINDIR)|g' \
	-e 's|@LIBDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))|g' \
	-e 's|@INCLUDEDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(INCLUDEDIR))|g' \
	-e "s|@INCLUDEDIR_FROM_LIBDIR@|$$(realpath -ms --relative-to='$(LIBDIR)' '$(INCLUDEDIR)')|g" \
	-e "s|@POINTER_SIZE@|$$(($$(od -An -j4 -N1 -tu1 '$(INSTALL_LIBRARY)') * 4))|g"

# This builds nothing: `sudo make install` should not leave files of root in the tree.
install:
	@for built in '$(INSTALL_LIBRARY)' '$(INSTALL_PUSHD)' '$(INSTALL_PUSHCTL)'; do \
		test -f "$$built" || { echo "$$built is missing: run make first" >&2; exit 1; }; \
	done
	$(INSTALL) -d '$(DESTDIR)$(LIBDIR)/pkgconfig' '$(DESTDIR)$(LIBDIR)/cmake/libpush' '$(DESTDIR)$(INCLUDEDIR)'
	$(INSTALL) -m 755 '$(INSTALL_LIBRARY)' '$(DESTDIR)$(LIBDIR)/libpush.so.$(VERSION)'
	ln -sf libpush.so.$(VERSION) '$(DESTDIR)$(LIBDIR)/libpush.so.$(SOVERSION)'
	ln -sf libpush.so.$(SOVERSION) '$(DESTDIR)$(LIBDIR)/libpush.so'
	$(INSTALL) -d '$(DESTDIR)$(BINDIR)' '$(DESTDIR)$(UNITDIR)'
	$(INSTALL) -m 755 '$(INSTALL_PUSHD)' '$(DESTDIR)$(BINDIR)/pushd'
	$(INSTALL) -m 755 '$(INSTALL_PUSHCTL)' '$(DESTDIR)$(BINDIR)/pushctl'
	$(INSTALL_SUBSTITUTE) "$(INSTALL_ROOT)packaging/pushd.service" > '$(DESTDIR)$(UNITDIR)/pushd.service'
	$(INSTALL) -m 644 '$(INSTALL_ROOT)packaging/pushd.socket' '$(DESTDIR)$(UNITDIR)/pushd.socket'
	$(INSTALL) -m 644 '$(INSTALL_ROOT)include/push.h' '$(INSTALL_ROOT)include/push.cdef.h' '$(DESTDIR)$(INCLUDEDIR)/'
	$(INSTALL_SUBSTITUTE) '$(INSTALL_ROOT)packaging/libpush.pc.in' > '$(DESTDIR)$(LIBDIR)/pkgconfig/libpush.pc'
	for file in libpush-config libpush-config-version; do \
		$(INSTALL_SUBSTITUTE) "$(INSTALL_ROOT)packaging/$$file.cmake.in" \
			> "$(DESTDIR)$(LIBDIR)/cmake/libpush/$$file.cmake" || exit 1; \
	done
	chmod 644 '$(DESTDIR)$(UNITDIR)/pushd.service' '$(DESTDIR)$(LIBDIR)/pkgconfig/libpush.pc' '$(DESTDIR)$(LIBDIR)'/cmake/libpush/*.cmake
	@test -n '$(DESTDIR)' || echo 'Installed in $(LIBDIR). If the loader looks there, run ldconfig; if not, link with -Wl,-rpath,$(LIBDIR)'

uninstall:
	rm -f '$(DESTDIR)$(LIBDIR)/libpush.so' '$(DESTDIR)$(LIBDIR)/libpush.so.$(SOVERSION)' \
		'$(DESTDIR)$(LIBDIR)/libpush.so.$(VERSION)' '$(DESTDIR)$(INCLUDEDIR)/push.h' '$(DESTDIR)$(INCLUDEDIR)/push.cdef.h' \
		'$(DESTDIR)$(LIBDIR)/pkgconfig/libpush.pc' '$(DESTDIR)$(LIBDIR)'/cmake/libpush/libpush-config*.cmake \
		'$(DESTDIR)$(BINDIR)/pushd' '$(DESTDIR)$(BINDIR)/pushctl' '$(DESTDIR)$(UNITDIR)/pushd.service' '$(DESTDIR)$(UNITDIR)/pushd.socket'
	-rmdir '$(DESTDIR)$(LIBDIR)/cmake/libpush' 2>/dev/null

.PHONY: install uninstall
