# What the line controller calls for one board while it stands still:  powershell -File hook.ps1 EXPORT
#
# Exit status 0 lets the board go on, 1 sends it to rework, 2 to a person, anything else stops it: adapt the four actions.
# The answer, one JSON object, is on standard output and kept in the log.
param(
    [Parameter(Mandatory = $true, Position = 0)] [string] $Export,
    [string] $InspectPop = "inspect-pop",
    [string] $Store = "$env:ProgramData\inspect-pop\records.db",
    [string] $Log = "$env:ProgramData\inspect-pop\hook.log",
    [double] $DeadlineS = 20                    # the line's own timeout must be longer
)
$ErrorActionPreference = "Stop"
[Console]::OutputEncoding = [System.Text.Encoding]::UTF8

$status = 3
$answer = ""
try {
    $deadline = $DeadlineS.ToString([System.Globalization.CultureInfo]::InvariantCulture)
    $answer = & $InspectPop hook $Export --store $Store --deadline $deadline
    $status = $LASTEXITCODE
}
catch {
    $answer = '{"serial": null, "verdict": "error", "reason": "the hook could not be called"}'
}
Write-Output $answer
try { Add-Content -Path $Log -Encoding UTF8 -Value "$((Get-Date).ToUniversalTime().ToString('o')) $status $answer" } catch { }

switch ($status) {
    0 { exit 0 }                                # pass: let it go on
    1 { exit 1 }                                # fail: to rework; the JSON names the joints
    2 { exit 2 }                                # review: a person looks at it
    default { exit 3 }                          # could not inspect, killed, not installed: stop, and call somebody
}
