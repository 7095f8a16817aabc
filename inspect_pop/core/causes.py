"""The process causes that a diagnosis can name and a simulated board can have; `none` first."""

__all__ = ["CAUSES"]

CAUSES = (
    "none",
    "warpage",
    "excess_paste",
    "insufficient_paste",
    "shallow_dip",
    "placement_offset",
    "oxidised_balls",
    "placement_force",
    "moisture",
)
