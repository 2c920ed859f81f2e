"""Plant small faults in a module of the package, and see whether a test or a notebook notices.

``llmlab nb mutate attention`` plants faults one at a time, runs for each the tests that reach its line, and lists the
faults that nobody noticed. A check that no fault can fail is no check.
"""
