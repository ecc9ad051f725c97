# The one front door: `make help` lists what is behind it. What is longer than a line is in scripts/.

export TARGET := x86_64-unknown-linux-musl
OGBOX   := target/$(TARGET)/release/ogbox
AARCH64 := aarch64-unknown-linux-musl
export CARGO ?= cargo
PREFIX ?= /usr/local
# The names to be laid: safe, opengnsys or all; and where those that OpenGnsys' cron jobs call go (scripts/links).
LINKS   ?= safe
LINKDIR ?= /usr/bin
BINDIR  = $(DESTDIR)$(PREFIX)/bin
SHARE   = $(DESTDIR)$(PREFIX)/share/ogbox

# The stripped binary's limit in bytes (3.25 MiB with every applet); `make size` fails over it.
BUDGET := 3407872

# The product: stable Rust, and what .cargo/config.toml and Cargo.toml say. `cargo install --path . --target …` gives the same.
BUILD  := $(CARGO) build --release --locked
BENCH   = scripts/$(if $(KEEP),keep )

# Where rustup, and mkfs.ext4, e2fsck and partclone live, and an ordinary user's PATH may not look.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin

.PHONY: all help demo test counts fuzz bench sim size baseline bloat install aarch64 uninstall clean initramfs lab test-qemu

all: ## build the binary, target/x86_64-unknown-linux-musl/release/ogbox
	scripts/setup build
	$(BUILD) --target $(TARGET)

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: all ## the whole way in two minutes, without root: image, torrent, swarm of four, four restored file systems
	scripts/setup demo
	scripts/demo $(OGBOX)

# Tests send signals that whoever started make may have had ignored: nohup, or a shell's `&`.
test: ## formatting, clippy, documentation, unit, property, cli, interop, machine and QEMU tests (SKIP=name,name leaves out what needs that tool)
	scripts/setup test
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --locked --target $(TARGET) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --locked --target $(TARGET) --no-deps --document-private-items
	$(BUILD) --target $(TARGET)
	scripts/check $(OGBOX) $(BUDGET)
	env --default-signal=HUP,INT $(CARGO) test --workspace --locked --target $(TARGET)
	scripts/counts
	$(BUILD) --target $(AARCH64)
	tests/machines/run $(OGBOX) target/$(AARCH64)/release/ogbox
	initramfs/pack $(OGBOX) target/initramfs.img
	tests/initramfs/run $(OGBOX)
	tests/browser/run $(OGBOX)
	tests/qemu/run $(OGBOX) target/initramfs.img
	tests/initramfs-tools/run $(OGBOX)

counts: ## instructions of the hot paths, as valgrind counts them; fails at 5 % above benches/counts/ (KEEP=1 writes that)
	scripts/setup counts
	scripts/counts $(if $(KEEP),--keep)

# Threads leave their lists of destructors behind, which counts as a leak.
fuzz: ## each parser against made-up input, a minute each (SECONDS=60); needs nightly Rust and cargo-fuzz
	for target in $$($(CARGO) +nightly fuzz list --fuzz-dir tests/fuzz); do \
		$(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz $$target -- -detect_leaks=0 -timeout=10 -rss_limit_mb=1024 -max_total_time=$(or $(SECONDS),60) || exit; done

bench: all ## beside partclone, mktorrent, aria2, libtorrent, ctorrent and opentracker, 20 minutes (KEEP=1 for benches/runs)
	scripts/setup bench
	$(BENCH)bench image
	$(BENCH)bench create --mib 3072 --rounds 5
	$(BENCH)bench swarm --peers 1 --mib 2048 --rate 0 --rounds 3
	$(BENCH)bench swarm
	$(BENCH)bench swarm --peers 8 --rate 100
	$(BENCH)bench-tracker
	$(BENCH)bench-seeder

sim: ## the swarm in virtual time: 10, 100 and 1,000 peers (ARGS="--size 4 --peers 100", --all for 5,000 too)
	CARGO_PROFILE_BENCH_OPT_LEVEL=3 CARGO_PROFILE_BENCH_LTO=thin \
		$(CARGO) bench --locked --target $(TARGET) --bench sim -- $(ARGS)

size: all ## the binary's size by crate and by room; fails over the BUDGET
	scripts/size table $(OGBOX) $(BUDGET)

baseline: all ## keep this build's symbols for `make bloat` to compare with
	scripts/size baseline

bloat: all ## what grew and shrank since `make baseline`, by symbol
	scripts/size bloat

initramfs: all ## what PCs boot by PXE, target/initramfs.img and its kernel (KERNEL=vmlinuz MODULES=DIR EXTRA=DIR)
	scripts/setup initramfs
	initramfs/pack $(OGBOX) target/initramfs.img

lab: initramfs ## a classroom of QEMU PCs on this machine: PXE, torrent, restore, start (PCS=3 MIB=40)
	scripts/setup lab
	scripts/lab $(OGBOX) target/initramfs.img $(or $(PCS),3)

test-qemu: initramfs ## the same as tests: a minute a case (CASE=2 for one of them)
	scripts/setup lab
	tests/qemu/run $(OGBOX) target/initramfs.img $(CASE)

aarch64: ## build it for aarch64, target/aarch64-unknown-linux-musl/release/ogbox
	TARGET=$(AARCH64) scripts/setup build
	$(BUILD) --target $(AARCH64)

install: all ## the binary, links of the names that no package has (LINKS=opengnsys, LINKS=all: more), what ogLive takes, in DESTDIR/PREFIX (PREFIX=/usr/local)
	scripts/links lay "$(LINKS)" $(OGBOX) "$(DESTDIR)" "$(PREFIX)" "$(LINKDIR)"
	install -D -m 755 scripts/opengnsys/initramfs-hook $(SHARE)/initramfs-hook
	install -D -m 644 scripts/opengnsys/Engine.ogbox $(SHARE)/Engine.ogbox

uninstall: ## remove what `make install` put there, and put back what it had kept
	scripts/links take "$(DESTDIR)" "$(PREFIX)"
	for name in $$($(BINDIR)/ogbox --list); do \
		[ "$$(readlink $(BINDIR)/$$name)" != ogbox ] || rm $(BINDIR)/$$name || exit; done
	rm -f $(BINDIR)/ogbox $(SHARE)/initramfs-hook $(SHARE)/Engine.ogbox

clean: ## remove target/
	$(CARGO) clean
