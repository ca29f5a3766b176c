"""Why a run ended."""

import diffrax as dfx


class RESULTS(dfx.RESULTS):  # pyright: ignore[reportGeneralTypeIssues]
    """Why a solve ended; extends Diffrax's codes. The message says what to try."""

    successful = ""
    max_switches_reached = (
        "The log of switches is full. Try a larger `max_switches`, or an earlier `t1`."
    )
    max_slides_reached = (
        "A neuron slides on more hyperplanes at once than there are slots for. Try a larger "
        "`max_slides`."
    )
    inconsistent_modes = (
        "No consistent continuation was found at a switch, to first order in time. The "
        "trajectory meets several hyperplanes in a degenerate way; try another `rtol`, or "
        "an initial network changed by a few units of rounding."
    )
    step_underflow = (
        "The step became smaller than time can resolve. The flow is too stiff here; try a "
        "larger `rtol`."
    )
