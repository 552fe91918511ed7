"""The optional compiled lanes. All else about the package is in pyproject.toml.

Without a C compiler the package is installed all the same, in pure Python: slower, and otherwise the same.
"""

import os

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "gateway._express",
            ["gateway/_express.pyx"],
            depends=["gateway/_outlet.pxi"],
            extra_compile_args=["-O3"],
            optional=True,
        ),
        # Not part of the package, but of the checkout: what the load generator does for every frame.
        *(
            [Extension("bench.load._swift", ["bench/load/_swift.pyx"], optional=True)]
            if os.environ.get("TANDEM_BUILD_BENCH")
            else []
        ),
    ]
)
