"""What every other package uses: values, tables of classes, columns, flags and limits, errors, and shared small tools."""
