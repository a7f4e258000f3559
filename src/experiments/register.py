"""`python -m experiments.register` is the command of `register_model`; imported, this name is the decorator."""

import sys

if __name__ == "__main__":
    from experiments.register_model import main

    main()
else:  # importing a submodule sets the package's attribute to what sys.modules holds
    from experiments.config.registry import register

    sys.modules[__name__] = register  # type: ignore[assignment]  # the decorator, as in `experiments.register.model`
