# vlmc: `make` builds build/vlmc, `make check` runs all tests, `make help` lists the rest.
CC       ?= cc
LLVM     ?= llvm-config-19
CFLAGS   ?= -O2 -g
CPPFLAGS += -D_GNU_SOURCE -I. -Ibuild -MMD -MP
WARNINGS  = -std=c11 -Wall -Wextra -Werror
BUILD    ?= build
PREFIX   ?= /usr/local
LIBS      = -ljansson -lpng -lz -ljpeg -lwebp -lpcre2-8 -lutf8proc -lm -lpthread -ldl

# Folders in pipeline order; llvm_*.c go into a backend of their own, opened on demand.
FOLDERS = runtime/base runtime compiler/syntax compiler/elaborate compiler/graph compiler/graph/passes \
          compiler/lower compiler/kernel compiler/emit compiler
SOURCES = $(filter-out compiler/emit/llvm_%,$(foreach folder,$(FOLDERS),$(wildcard $(folder)/*.c)))
LLVM_SOURCES = $(wildcard compiler/emit/llvm_*.c)
GENERATED = $(if $(wildcard compiler/syntax/parser.y),$(BUILD)/parser.o) \
            $(if $(wildcard compiler/syntax/lexer.l),$(BUILD)/lexer.o)
OBJECTS = $(SOURCES:%.c=$(BUILD)/%.o) $(GENERATED)
LIBRARY = $(BUILD)/libvlmc.a
TESTS   = $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/test_*.c))

.PHONY: all check clean
all: $(BUILD)/vlmc

$(LIBRARY): $(filter-out $(BUILD)/compiler/main.o,$(OBJECTS))
	rm -f $@ && ar rcs $@ $^

$(BUILD)/vlmc: $(OBJECTS) $(if $(LLVM_SOURCES),$(BUILD)/vlmc-llvm.so)
	$(CC) $(LDFLAGS) -rdynamic -o $@ $(OBJECTS) $(LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WARNINGS) -fPIC -c -o $@ $<

$(BUILD)/parser.c: compiler/syntax/parser.y
	@mkdir -p $(@D)
	bison -Wall -Werror --header=$(BUILD)/parser.h -o $@ $<
$(BUILD)/lexer.c: compiler/syntax/lexer.l $(BUILD)/parser.c
	flex --header-file=$(BUILD)/lexer.h -o $@ $<
$(BUILD)/parser.o $(BUILD)/lexer.o: $(BUILD)/%.o: $(BUILD)/%.c | $(BUILD)/parser.c $(BUILD)/lexer.c
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WARNINGS) -Wno-unused-function -Wno-sign-compare -fPIC -c -o $@ $<
$(patsubst %.c,$(BUILD)/%.o,$(wildcard compiler/syntax/*.c)): | $(GENERATED:.o=.c)

$(BUILD)/vlmc-llvm.so: $(LLVM_SOURCES)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -isystem $(shell $(LLVM) --includedir) $(CFLAGS) $(WARNINGS) -fPIC -shared -o $@ $^ -lLLVM-19

$(BUILD)/tests/%: tests/%.c $(LIBRARY) $(if $(LLVM_SOURCES),$(BUILD)/vlmc-llvm.so)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WARNINGS) -rdynamic -o $@ $< $(LIBRARY) $(LIBS)

check: $(TESTS)
	@sh tests/run.sh $(TESTS)

clean:
	rm -rf $(BUILD)

-include $(OBJECTS:.o=.d)
