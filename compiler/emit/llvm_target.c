// One kernel through LLVM: the function around an anchor's loops, a short list of passes, machine code.
// Input: a kernel and a CPU; output: an object, assembly or IR.
#include "compiler/emit/llvm_target.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/Transforms/PassBuilder.h>

#include <stdlib.h>
#include <string.h>

// Loops, lanes and unrolling are already there, and expressions come simplified: variables become values,
// what was computed twice is computed once. More passes cost more time than their code saves.
static const char passes[] = "function(mem2reg,early-cse,simplifycfg)";

// ---- the CPU ------------------------------------------------------------------------------------

void llvm_cpu_names(Arena *arena, const char *architecture, const char **cpu, const char **features) {
  *cpu = architecture, *features = "";
  if (architecture) return;
  char *name = LLVMGetHostCPUName(), *all = LLVMGetHostCPUFeatures();
  *cpu = arena_copy(arena, name, strlen(name));
  *features = arena_copy(arena, all, strlen(all));
  LLVMDisposeMessage(name);
  LLVMDisposeMessage(all);
}

static void wide_vectors(LLVMContextRef context, LLVMValueRef function, int lanes) {
  const char *width = lanes == 16 ? "512" : lanes == 8 ? "256" : "128";
  const char *names[] = {"prefer-vector-width", "min-legal-vector-width"};
  for (int i = 0; i < 2; i++)
    LLVMAddAttributeAtIndex(
        function, LLVMAttributeFunctionIndex,
        LLVMCreateStringAttribute(context, names[i], (unsigned)strlen(names[i]), width, 3));
}

static bool emit_bytes(Target *target, LLVMModuleRef module, LLVMCodeGenFileType type, char **bytes,
                       size_t *size, Failure *failure) {
  char *message = NULL;
  LLVMMemoryBufferRef buffer;
  if (LLVMTargetMachineEmitToMemoryBuffer(target->machine, module, type, &message, &buffer)) {
    fail_internal(failure, "LLVM: %s", message ? message : "no code");
    LLVMDisposeMessage(message);
    return false;
  }
  *size = LLVMGetBufferSize(buffer);
  *bytes = malloc(*size + 1);
  if (!*bytes) die("out of memory for %zu bytes of code", *size);
  memcpy(*bytes, LLVMGetBufferStart(buffer), *size);
  (*bytes)[*size] = 0;
  LLVMDisposeMemoryBuffer(buffer);
  return true;
}

// LLVM knows what each CPU has but does not tell: so let it compile x * y + z on 16 lanes and look what it
// takes.
static bool probe(Target *target, Failure *failure) {
  LLVMContextRef context = LLVMContextCreate();
  LLVMModuleRef module = LLVMModuleCreateWithNameInContext("probe", context);
  LLVMBuilderRef builder = LLVMCreateBuilderInContext(context);
  LLVMTypeRef vector = LLVMVectorType(LLVMFloatTypeInContext(context), 16),
              pointer = LLVMPointerTypeInContext(context, 0);
  LLVMTypeRef brain = LLVMVectorType(LLVMBFloatTypeInContext(context), 16);
  LLVMTypeRef half = LLVMVectorType(LLVMHalfTypeInContext(context), 16);
  LLVMTypeRef type = LLVMFunctionType(LLVMVoidTypeInContext(context), &pointer, 1, false);
  LLVMValueRef function = LLVMAddFunction(module, "probe", type), memory = LLVMGetParam(function, 0);
  wide_vectors(context, function, 16);
  LLVMPositionBuilderAtEnd(builder, LLVMAppendBasicBlockInContext(context, function, ""));
  LLVMValueRef x = LLVMBuildLoad2(builder, vector, memory, "");
  LLVMValueRef index = LLVMConstInt(LLVMInt64TypeInContext(context), 1, false);
  LLVMValueRef product = LLVMBuildFMul(builder, x, x, ""), sum = LLVMBuildFAdd(builder, product, x, "");
  LLVMSetFastMathFlags(product, LLVMFastMathAllowContract);
  LLVMSetFastMathFlags(sum, LLVMFastMathAllowContract);
  LLVMBuildStore(builder, sum, memory);
  LLVMBuildStore(builder, LLVMBuildFPTrunc(builder, x, brain, ""), memory);
  LLVMValueRef next =
      LLVMBuildGEP2(builder, vector, memory, (LLVMValueRef[]){index}, 1, ""); // else one would be dead
  LLVMBuildStore(builder, LLVMBuildFPTrunc(builder, x, half, ""), next);
  LLVMBuildRetVoid(builder);
  char *text = NULL;
  size_t size;
  bool ok = emit_bytes(target, module, LLVMAssemblyFile, &text, &size, failure);
  if (ok) {
    Machine *facts = &target->facts;
    facts->lanes = strstr(text, "zmm") ? 16 : strstr(text, "ymm") ? 8 : 4;
    facts->avx512 = facts->lanes == 16;
    facts->registers = facts->avx512 ? 32 : 16;
    facts->fma = strstr(text, "vfmadd") != NULL;
    facts->f16 = strstr(text, "vcvtps2ph") != NULL;
    facts->bf16 = strstr(text, "vcvtneps2bf16") != NULL;
    free(text);
  }
  LLVMDisposeBuilder(builder);
  LLVMDisposeModule(module);
  LLVMContextDispose(context);
  return ok;
}

bool llvm_target_open(Target *target, const char *cpu, const char *features, Failure *failure) {
  char *message = NULL, *triple = LLVMGetDefaultTargetTriple();
  LLVMTargetRef llvm_target;
  *target = (Target){.facts = {.cpu = cpu, .features = features}};
  bool failed = LLVMGetTargetFromTriple(triple, &llvm_target, &message);
  if (!failed)
    target->machine = LLVMCreateTargetMachine(llvm_target, triple, cpu, features, LLVMCodeGenLevelLess,
                                              LLVMRelocPIC, LLVMCodeModelDefault);
  if (!target->machine)
    fail_internal(failure, "LLVM can not compile for %s: %s", triple, message ? message : cpu);
  LLVMDisposeMessage(message);
  LLVMDisposeMessage(triple);
  return target->machine && probe(target, failure);
}

void llvm_target_close(Target *target) {
  if (target->machine) LLVMDisposeTargetMachine(target->machine);
}

// ---- the function -------------------------------------------------------------------------------

char *llvm_symbol(Arena *arena, const Kernel *kernel) {
  return arena_print(arena, "kernel_%s", kernel->name);
}

static void gather_facts(Emit *emit) {
  const Kernel *kernel = emit->kernel;
  emit->live = ARENA_ARRAY(emit->arena, bool, kernel->expr_count);
  emit->free_axes = ARENA_ARRAY(emit->arena, uint32_t, kernel->expr_count);
  emit->level = ARENA_ARRAY(emit->arena, int, kernel->expr_count);
  emit->uses = ARENA_ARRAY(emit->arena, uint64_t, kernel->expr_count);
  kernel_reachable(kernel, emit->live);
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    const Expr *expr = &kernel->exprs[id];
    int level = 0;
    emit->free_axes[id] = kernel_free_axes(kernel, id);
    for (int i = 0; i < 3; i++)
      if (emit->level[expr->in[i]] > level) level = emit->level[expr->in[i]];
    if (expr->op == SCALAR_LOAD)
      for (int i = 0; i < kernel->buffers[expr->buffer].rank; i++)
        if (emit->level[expr->index[i]] > level) level = emit->level[expr->index[i]];
    emit->level[id] = level + (expr->axes != 0);
  }
}

static void open_function(Emit *emit) {
  LLVMContextRef context = emit->context;
  LLVMTypeRef parameters[] = {emit->pointer, emit->pointer, emit->i64, emit->i64, emit->pointer};
  LLVMTypeRef type = LLVMFunctionType(LLVMVoidTypeInContext(context), parameters, 5, false);
  emit->function = LLVMAddFunction(emit->module, llvm_symbol(emit->arena, emit->kernel), type);
  wide_vectors(context, emit->function, emit->machine->lanes);
  unsigned nounwind = LLVMGetEnumAttributeKindForName("nounwind", 8);
  LLVMAddAttributeAtIndex(emit->function, LLVMAttributeFunctionIndex,
                          LLVMCreateEnumAttribute(context, nounwind, 0));
  emit->begin = LLVMGetParam(emit->function, 2);
  emit->end = LLVMGetParam(emit->function, 3);
  emit->scratch = LLVMGetParam(emit->function, 4);
  emit->allocas = LLVMAppendBasicBlockInContext(context, emit->function, "variables");
  LLVMBasicBlockRef entry = LLVMAppendBasicBlockInContext(context, emit->function, "entry");
  LLVMPositionBuilderAtEnd(emit->builder, emit->allocas);
  LLVMBuildBr(emit->builder, entry);
  LLVMPositionBuilderAtEnd(emit->builder, entry);
  for (int i = 0; i < emit->kernel->buffer_count; i++) {
    LLVMValueRef slot = llvm_offset(emit, LLVMGetParam(emit->function, 0), emit->pointer, llvm_i64(emit, i));
    emit->buffers[i] = llvm_get(emit, emit->pointer, slot);
  }
  for (int i = 0; i < SYMBOL_COUNT; i++) {
    LLVMValueRef slot = llvm_offset(emit, LLVMGetParam(emit->function, 1), emit->i64, llvm_i64(emit, i));
    emit->symbols[i] = i ? llvm_get(emit, emit->i64, slot) : llvm_i64(emit, 0);
  }
  emit->root = llvm_scope_open(emit);
}

// llvm_map keeps sums over slow axes in registers, which is what columns want.
static bool (*const anchors[ANCHOR_COUNT])(Emit *emit) = {
    [ANCHOR_MAP] = llvm_map, [ANCHOR_ROW] = llvm_row,         [ANCHOR_COLUMN] = llvm_map,
    [ANCHOR_DOT] = llvm_dot, [ANCHOR_SCATTER] = llvm_scatter, [ANCHOR_ATTENTION] = llvm_attention,
};

static void emit_function(Emit *emit) {
  gather_facts(emit);
  open_function(emit);
  if (!anchors[emit->kernel->anchor](emit) && !llvm_row(emit)) llvm_map(emit);
  llvm_scope_close(emit, emit->root);
  LLVMBuildRetVoid(emit->builder);
}

// ---- passes and code ----------------------------------------------------------------------------

static bool run_passes(Target *target, LLVMModuleRef module, const Kernel *kernel, Failure *failure) {
  char *message = NULL;
  if (LLVMVerifyModule(module, LLVMReturnStatusAction, &message)) {
    fail_internal(failure, "kernel %s: LLVM refuses its code: %.600s", kernel->name, message);
    LLVMDisposeMessage(message);
    return false;
  }
  LLVMDisposeMessage(message);
  LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
  LLVMErrorRef error = LLVMRunPasses(module, passes, target->machine, options);
  LLVMDisposePassBuilderOptions(options);
  if (!error) return true;
  char *text = LLVMGetErrorMessage(error);
  fail_internal(failure, "kernel %s: %s", kernel->name, text);
  LLVMDisposeErrorMessage(text);
  return false;
}

static bool emit_form(Target *target, LLVMModuleRef module, Form form, Object *object, Failure *failure) {
  if (form == FORM_OBJECT || form == FORM_ASSEMBLY)
    return emit_bytes(target, module, form == FORM_OBJECT ? LLVMObjectFile : LLVMAssemblyFile, &object->bytes,
                      &object->size, failure);
  char *text = LLVMPrintModuleToString(module);
  object->bytes = strdup(text);
  object->size = strlen(text);
  LLVMDisposeMessage(text);
  return object->bytes != NULL;
}

bool llvm_compile(Target *target, Kernel *kernel, Form form, Object *object, Failure *failure) {
  Arena *arena = arena_new();
  LLVMContextRef context = LLVMContextCreate();
  Emit emit = {.arena = arena, .machine = &target->facts, .context = context};
  emit.kernel = llvm_prepare(arena, kernel);
  emit.module = LLVMModuleCreateWithNameInContext(kernel->name, context);
  LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(target->machine);
  LLVMSetModuleDataLayout(emit.module, layout);
  LLVMDisposeTargetData(layout);
  char *triple = LLVMGetTargetMachineTriple(target->machine);
  LLVMSetTarget(emit.module, triple);
  LLVMDisposeMessage(triple);
  emit.builder = LLVMCreateBuilderInContext(context);
  emit.i1 = LLVMInt1TypeInContext(context), emit.i8 = LLVMInt8TypeInContext(context);
  emit.i16 = LLVMInt16TypeInContext(context), emit.i32 = LLVMInt32TypeInContext(context);
  emit.i64 = LLVMInt64TypeInContext(context), emit.f32 = LLVMFloatTypeInContext(context);
  emit.pointer = LLVMPointerTypeInContext(context, 0);
  emit_function(&emit);
  *object = (Object){.work = emit.work, .scratch_bytes = emit.scratch_bytes};
  bool ok = run_passes(target, emit.module, kernel, failure) &&
            emit_form(target, emit.module, form, object, failure);
  LLVMDisposeBuilder(emit.builder);
  LLVMDisposeModule(emit.module);
  LLVMContextDispose(context);
  arena_free(arena);
  return ok;
}
