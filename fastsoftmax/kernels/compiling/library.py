"""The way from a kernel's instructions to machine code: Numba's compiler, without what kernels do not need.

What `staging` writes is typed, inlined, and in single assignment form. So Numba's passes over its own representation
shrink to those that type and lower a call, and LLVM's to a light round.
"""

import contextlib

from llvmlite import binding as llvm
from numba.core.codegen import JITCPUCodegen
from numba.core.compiler import CompilerBase
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.typed_passes import (
    AnnotateTypes,
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
)
from numba.core.untyped_passes import FixupArgs, IRProcessing, TranslateByteCode

from .target import AVX512

_PASSES = (
    (TranslateByteCode, "analyzing bytecode"),
    (FixupArgs, "fix up args"),
    (IRProcessing, "processing IR"),
    (NopythonTypeInference, "nopython frontend"),
    (IRLegalization, "ensure IR is legal prior to lowering"),
    (AnnotateTypes, "annotate types"),
    (NativeLowering, "native lowering"),
    (NoPythonBackend, "nopython mode backend"),
)


class KernelCompiler(CompilerBase):
    """Numba's compiler for functions that are one call of an intrinsic."""

    def define_pipelines(self):
        """Give the passes, in order."""
        state = self.state
        state.library = KernelLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        passes = PassManager("kernel")
        for each in _PASSES:
            passes.add_pass(*each)
        passes.finalize()
        return [passes]


class KernelLibrary(JITCPUCodegen._library_class):
    """The code of a kernel."""

    def _optimize_functions(self, ll_module):
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self):
        self.ir_lines = str(self._final_module).count("\n")
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        # The source has its own vectors, and as many at a time as there are registers for: unrolled twice, the product
        # of wide matrices took almost three times as long with AVX-512 (M33).
        options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
        builder = llvm.create_pass_builder(self._codegen._tm, options)
        passes = builder.getModulePassManager()
        passes.run(self._final_module, builder)

    def _finalize_specific(self):
        with _constants_where_they_are_used():
            super()._finalize_specific()

    def get_asm_str(self):
        """Give the assembly of what runs."""
        with _constants_where_they_are_used():
            return super().get_asm_str()


@contextlib.contextmanager
def _constants_where_they_are_used():
    """Have LLVM's code generator put constants that it moved out of a loop back, if registers are too few for them.

    It would spill sums for them, and losses by AVX2 take longer. AVX-512 has twice the registers, and there the same
    costs almost as much as it gains with AVX2 (M30). The option is the whole process's, so it is set while a kernel is
    compiled, under the lock of all that compile, and no longer.
    """
    with global_compiler_lock:
        llvm.set_option("", f"{_SINK}={not AVX512}".lower())
        try:
            yield
        finally:
            llvm.set_option("", f"{_SINK}=false")


_SINK = "--sink-insts-to-avoid-spills"
