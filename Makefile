# vlmc: `make` builds build/vlmc, `make check` runs all tests, `make help` lists the rest.
CC       ?= cc
LLVM     ?= llvm-config-19
CFLAGS   ?= -O2 -g
CPPFLAGS += -D_GNU_SOURCE -I. -I$(BUILD) -I/usr/include/freetype2 -MMD -MP
WARNINGS  = -std=c11 -Wall -Wextra -Werror
BUILD    ?= build
PREFIX   ?= /usr/local
LIBS      = -ljansson -lpng -lz -ljpeg -lwebp -lpcre2-8 -lutf8proc -lfreetype -lm -lpthread -ldl

# Folders in pipeline order. llvm_*.c go into a backend of their own that is opened on demand: vlmc itself starts
# without LLVM.
FOLDERS = runtime/base runtime/tokenizer runtime/weights runtime compiler/syntax compiler/elaborate compiler/graph compiler/graph/passes \
          compiler/lower compiler/kernel compiler/emit compiler
SOURCES = $(filter-out compiler/emit/llvm_%,$(foreach folder,$(FOLDERS),$(wildcard $(folder)/*.c)))
LLVM_SOURCES = $(wildcard compiler/emit/llvm_*.c)
LLVM_OBJECTS = $(LLVM_SOURCES:%.c=$(BUILD)/%.o)
GENERATED = $(BUILD)/parser.c $(BUILD)/lexer.c
OBJECTS = $(SOURCES:%.c=$(BUILD)/%.o) $(GENERATED:.c=.o)
LIBRARY = $(BUILD)/libvlmc.a
PLUGIN  = $(BUILD)/vlmc-llvm.so
TESTS   = $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))
SCRIPTS = $(wildcard tests/test_*.sh)
BENCHES = $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/*.c))
WHOLE   = -Wl,--whole-archive $(LIBRARY) -Wl,--no-whole-archive # the plugin calls into the program

.PHONY: all check sanitize demo bench bench-peers fuzz install clean help
all: $(BUILD)/vlmc $(PLUGIN)

help:
	@echo "make          build $(BUILD)/vlmc, installing what is missing"
	@echo "make check    build and run all tests"
	@echo "make sanitize build and run all tests under the address and undefined-behaviour sanitizers"
	@echo "make demo     train a small VLM on Fashion-MNIST and talk with it (PRESET=long: longer, better; DATA=DIR)"
	@echo "make bench    measure speed, as ratios"
	@echo "make bench-peers  measure beside PyTorch, ONNX Runtime, llama.cpp, llm.c, into tests/bench/RESULTS.md"
	@echo "make fuzz     60 seconds per reader of foreign input"
	@echo "make install  PREFIX=$(PREFIX)"

# Runs when the list of what is needed changes, and once per build folder.
$(BUILD)/setup: .ci/setup
	@mkdir -p $(@D)
	@.ci/setup build && touch $@
$(OBJECTS) $(LLVM_OBJECTS) $(GENERATED): | $(BUILD)/setup

$(LIBRARY): $(filter-out $(BUILD)/compiler/main.o,$(OBJECTS))
	rm -f $@ && ar rcs $@ $^

$(BUILD)/vlmc: $(BUILD)/compiler/main.o $(LIBRARY)
	$(CC) $(LDFLAGS) -rdynamic -o $@ $< $(WHOLE) $(LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WARNINGS) -fPIC -c -o $@ $<

$(BUILD)/parser.c: compiler/syntax/parser.y
	@mkdir -p $(@D)
	bison -Wall -Werror --header=$(BUILD)/parser.h -o $@ $<
$(BUILD)/lexer.c: compiler/syntax/lexer.l $(BUILD)/parser.c
	flex --header-file=$(BUILD)/lexer.h -o $@ $<
$(BUILD)/parser.o $(BUILD)/lexer.o: $(BUILD)/%.o: $(BUILD)/%.c | $(GENERATED)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WARNINGS) -Wno-unused-function -Wno-sign-compare -fPIC -c -o $@ $<
$(patsubst %.c,$(BUILD)/%.o,$(wildcard compiler/syntax/*.c)): | $(GENERATED)

$(LLVM_OBJECTS): CPPFLAGS += -isystem $(shell $(LLVM) --includedir)
# The plugin carries its own copy of what it needs of the library, which has no global state.
$(PLUGIN): $(LLVM_OBJECTS) $(LIBRARY)
	$(CC) $(LDFLAGS) -shared -Wl,--exclude-libs,ALL -o $@ $^ -L$(shell $(LLVM) --libdir) -lLLVM-19

$(BUILD)/tests/%: tests/%.c $(LIBRARY) $(PLUGIN)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WARNINGS) $(LDFLAGS) -rdynamic -o $@ $< $(WHOLE) $(LIBS)
$(BUILD)/bench/%: tests/bench/%.c $(LIBRARY) $(PLUGIN)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WARNINGS) $(LDFLAGS) -rdynamic -o $@ $< $(WHOLE) $(LIBS)

check: all $(TESTS) $(BUILD)/bench/rounds
	@.ci/setup test fonts
	@BUILD=$(BUILD) sh tests/run.sh $(TESTS) $(SCRIPTS)

# Under sanitizers GCC's flow analysis warns of what is not so: warnings are told, not errors.
sanitize:
	@$(MAKE) check BUILD=$(BUILD)-sanitized WARNINGS="-std=c11 -Wall -Wextra" \
	  CFLAGS="-O1 -g -fsanitize=address,undefined" LDFLAGS="-fsanitize=address,undefined"

bench: all $(BENCHES)
	@BUILD=$(BUILD) sh tests/bench/run.sh

bench-peers: all $(BENCHES)
	@BUILD=$(BUILD) sh tests/bench/peers.sh $(ROWS)

demo: all
	@.ci/setup demo fonts
	@BUILD=$(BUILD) sh examples/fashion/demo.sh

fuzz:
	@.ci/setup fuzz
	@LIBS="$(LIBS)" sh tests/fuzz/run.sh $(SECONDS)

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/vlmc $(DESTDIR)$(PREFIX)/share/vlmc/stdlib $(DESTDIR)$(PREFIX)/share/vlmc/models
	install $(BUILD)/vlmc $(DESTDIR)$(PREFIX)/bin
	install $(PLUGIN) $(DESTDIR)$(PREFIX)/lib/vlmc
	install -m 644 stdlib/*.vlm $(DESTDIR)$(PREFIX)/share/vlmc/stdlib
	install -m 644 models/*.vlm $(DESTDIR)$(PREFIX)/share/vlmc/models

clean:
	rm -rf $(BUILD)

-include $(OBJECTS:.o=.d) $(LLVM_OBJECTS:.o=.d)
